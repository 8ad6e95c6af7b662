"""Starts processes that end with the process that started them, finds processes, and ends them."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

_libc = ctypes.CDLL(None)


def launch(
    command: Sequence[str | Path], death_signal: signal.Signals = signal.SIGTERM, **popen: Any
) -> subprocess.Popen[bytes]:
    """Starts a child in its own session, so that Ctrl-C in the terminal does not reach it.

    On Linux the kernel sends `death_signal` to the child when the calling thread ends.
    """
    parent = os.getpid()

    def in_child() -> None:
        end_with_parent(death_signal)
        if os.getppid() != parent:  # the parent ended between fork and prctl
            os._exit(1)

    # Safe in a process with threads: the function takes no lock and imports nothing.
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "preexec_fn": in_child, **popen}
    return subprocess.Popen(command, start_new_session=True, **options)


def end_with_parent(signum: signal.Signals) -> None:
    """Makes the kernel send this signal to the calling process when its parent ends (Linux only)."""
    if sys.platform == "linux":
        _libc.prctl(1, int(signum), 0, 0, 0)  # PR_SET_PDEATHSIG


def signal_group(leader: int, signum: signal.Signals) -> None:
    """Sends a signal to a process and to all that it has started in its session."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: the latter, when only zombies are left
        os.killpg(leader, signum)


def find(matches: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Returns the living processes that match. A process that this user may not inspect does not match."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            # A container without an init process never reaps zombies.
            if matches(process) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill(matches: Callable[[psutil.Process], bool]) -> None:
    """Kills the processes that match, and waits until none is left, for five seconds at most."""
    deadline = time.monotonic() + 5
    while (found := find(matches)) and time.monotonic() < deadline:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)
