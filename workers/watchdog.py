"""The watchdog of a worker: ends a process whose loop hangs."""

import os
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


class Watchdog:
    """Ends this process when its loop hangs, so that the supervisor restarts it.

    It counts its own ticks instead of reading a clock: while the whole process is frozen (SIGSTOP, a
    suspended machine) no tick passes, so a process that wakes up is not ended.
    """

    def __init__(self, kind: str, timeout_s: int, end: Callable[[int], object] = os._exit) -> None:
        self._kind, self._timeout_s, self._end = kind, timeout_s, end
        self._silent_s = 0
        self._stopped = threading.Event()

    def beat(self) -> None:
        """Reports that the loop is alive."""
        self._silent_s = 0

    def tick(self) -> None:
        """Counts one more second; ends the process after `timeout_s` of them without a beat."""
        self._silent_s += 1
        if self._silent_s > self._timeout_s:
            log.critical("the loop hangs, ending", kind=self._kind, seconds=self._timeout_s)
            self._end(1)

    def start(self) -> None:
        """Ticks once a second in a thread of its own, until `stop`."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(1):
            self.tick()
