"""What the operating system knows of a process: since when it lives, what it runs, how to end it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def launch(
    argv: Sequence[str | Path],
    *,
    output: int,
    environ: Mapping[str, str],
    directory: Path,
    last_wish: signal.Signals = signal.SIGTERM,
    given: int = subprocess.DEVNULL,
    enter: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """A child in its own session, so that Ctrl-C does not reach it, which gets `last_wish` when we are gone.

    Linux only, and to be called from the main thread: it is the thread's end that sends the signal.
    """
    me = os.getpid()

    def preexec() -> None:
        if enter:
            enter()
        if LINUX:  # after `enter`: a change of credentials forgets it
            libc.prctl(PR_SET_PDEATHSIG, int(last_wish), 0, 0, 0)
            if os.getppid() != me:  # gone between fork and prctl
                os._exit(1)

    return subprocess.Popen(
        argv,
        stdin=given,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=environ,
        start_new_session=True,
        preexec_fn=preexec,  # noqa: PLW1509 -- we have no threads
    )


def born(pid: int) -> str | None:
    """When this process started, comparable only to itself; None if there is none, or only its zombie."""
    if LINUX:
        try:
            fields = _stat(Path(f"/proc/{pid}"))
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        state, since = fields[0], f"{boot} {fields[19]}"
    else:
        state, _, since = _ps("stat=,lstart=", pid).partition(" ")
    return None if state[:1] in ("", "Z", "X") else since.strip()


def catches(pid: int, signum: signal.Signals) -> bool:
    """Whether a process handles this signal itself (Linux only; elsewhere nobody is known to)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) & 1 << signum - 1)


def command(pid: int) -> str:
    """The command line of a process, empty if it is gone."""
    if not LINUX:
        return _ps("command=", pid)
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def standing_in(directory: Path, name: str) -> list[int]:
    """The living processes called `name` whose working directory is this one (Linux only)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*") if LINUX else ():
        try:
            if (entry / "comm").read_text().strip() == name and (entry / "cwd").readlink() == directory:
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if born(pid)]


def group_lives(leader: int) -> bool:
    """Whether anything but zombies is left in the process group of this leader."""
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):  # macOS answers the latter when there are only zombies
        return False
    # A zombie that nobody reaps (a container without an init) takes the signal too.
    return bool(members(leader)) or not LINUX


def members(leader: int, directory: Path | None = None) -> list[int]:
    """The living processes of a group, only those working in `directory` if it is given (Linux only)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*") if LINUX else ():
        try:
            state, _, group = _stat(entry)[:3]
            if group == str(leader) and state != "Z" and directory in (None, (entry / "cwd").readlink()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def send(pid: int, signum: signal.Signals, *, group: bool = False) -> None:
    """Signal a process, or its whole group, that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, signum)


def gone(pids: Iterable[int], seconds: float) -> bool:
    """Wait until none of these processes lives."""
    deadline = time.monotonic() + seconds
    left = list(pids)
    while left := [pid for pid in left if born(pid)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _stat(entry: Path) -> list[str]:
    # The command in parentheses may itself hold spaces and parentheses.
    return (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _ps(columns: str, pid: int) -> str:
    found = subprocess.run(["ps", "-o", columns, "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()
