"""Keeps processes running: each has a thread that starts it again when it ends."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from db.core.settings import InvalidSetting
from workers.dev import Failure, stack
from workers.dev.processes import signal_group
from workers.dev.servers import Server

log = structlog.get_logger(__name__)

STABLE_AFTER_S = 10  # a process that ran for longer starts again at once
MAX_BACK_OFF_S = 5.0
STOP_TIMEOUT_S = 10
INVALID_SETTING = 2  # the exit status of a process with an invalid setting
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Process = subprocess.Popen[bytes]


class Supervisor:
    """Runs processes, `running` by name. A signal to stop raises KeyboardInterrupt in the main thread."""

    def __init__(self, pids: Path) -> None:
        self._pids = pids
        self.running: dict[str, Process] = {}
        self._refused = ""
        self._ending = threading.Event()
        # Held while a process starts, so that `stop` misses none.
        self._lock = threading.Lock()
        for signum in STOP_SIGNALS:
            signal.signal(signum, signal.default_int_handler)

    def keep(self, name: str, spawn: Callable[[], Process], running: Process | None = None) -> None:
        """Starts a process, or adopts a running one, and starts it again whenever it ends."""
        threading.Thread(target=self._keep, args=(name, spawn, running), daemon=True).start()

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        """Waits for a condition, without one for ever: a signal ends it.

        Raises InvalidSetting if the first start of a process ends with status 2.
        """
        while not (until and until()):
            if self._ending.wait(0.05 if until else None):
                raise InvalidSetting(f"{self._refused} has an invalid setting: see its line above")

    def stop(self, servers: list[Server]) -> None:
        """Stops all processes at the same time, then the servers that they need."""
        for signum in STOP_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        with self._lock:
            self._ending.set()
            last = {server.name for server in servers}
            first = [process for name, process in self.running.items() if name not in last]
        for process in first:
            signal_group(process.pid, signal.SIGTERM)
            # A process that is frozen on purpose would not see it.
            signal_group(process.pid, signal.SIGCONT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in first:
            with suppress(subprocess.TimeoutExpired):
                process.wait(deadline - time.monotonic())
            signal_group(process.pid, signal.SIGKILL)
        for server in servers:
            server.stop()

    def _keep(self, name: str, spawn: Callable[[], Process], process: Process | None) -> None:
        """Waits for the end of a process and starts it again, with a pause that grows, until `stop`."""
        back_off_s, may_refuse = 0.0, process is None
        while True:
            started = time.monotonic()
            try:
                with self._lock:
                    if self._ending.is_set():
                        return
                    process = process or spawn()
                    self._record(name, process)
                status = process.wait()
                # A process left in its group would keep its port.
                signal_group(process.pid, signal.SIGKILL)
                with self._lock:
                    self._record(name, None)
                if status == INVALID_SETTING and may_refuse:
                    self._refused = name
                    self._ending.set()
                ended = signal.Signals(-status).name if status < 0 else str(status)
            except (Failure, InvalidSetting, OSError, subprocess.SubprocessError) as error:
                ended = str(error)
            if self._ending.is_set():
                return
            if time.monotonic() - started >= STABLE_AFTER_S:
                back_off_s = 0
            log.warning("ended, starts again", process=name, status=ended, after_s=back_off_s)
            self._ending.wait(back_off_s)
            back_off_s = min(MAX_BACK_OFF_S, back_off_s * 2 or 0.2)
            process, may_refuse = None, False

    def _record(self, name: str, process: Process | None) -> None:
        self.running.pop(name, None)
        if process:
            self.running[name] = process
        pids = {name: process.pid for name, process in self.running.items()}
        stack.write(self._pids, json.dumps(pids, indent=1) + "\n")
