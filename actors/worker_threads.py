"""The threads of a worker: counts how many are busy, and detects when all of them hang.

A thread that hangs can be neither interrupted nor replaced. When all threads hang, the process stops its
heartbeat, so that /health reports it, and then exits, so that its supervisor starts it again.
"""

import threading
import time
from collections.abc import Callable

_thread = threading.local()


class WorkerThreads:
    """A number of threads that handle messages."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._busy = self._progress = 0
        self._last_progress, self._stalled_checks = -1, 0

    def counted(self, handle: Callable[[str], None]) -> Callable[[str], None]:
        """Wraps a message handler, so that its thread counts as busy while it runs."""

        def counted(id: str) -> None:
            _thread.pool = self
            self.advance(busy=1)
            try:
                handle(id)
            finally:
                self.advance(busy=-1)

        return counted

    def check(self) -> int:
        """Returns for how many checks in a row all threads were busy and none made progress.

        Counts checks and not seconds: while the whole process is frozen, no check runs. A single thread may
        have one long job, so it never counts as hanging.
        """
        with self._lock:
            stalled = (
                self.threads > 1 and self._busy >= self.threads and self._progress == self._last_progress
            )
            self._last_progress = self._progress
            self._stalled_checks = self._stalled_checks + 1 if stalled else 0
            return self._stalled_checks

    def advance(self, *, busy: int = 0) -> None:
        """Counts progress of a thread, and by how much the number of busy threads changes."""
        with self._lock:
            self._busy += busy
            self._progress += 1


def rest(seconds: float) -> None:
    """Lets the thread of a worker rest, so that more work comes together; does nothing in other threads."""
    if getattr(_thread, "pool", None) is not None:
        time.sleep(seconds)


def made_progress() -> None:
    """Tells that this thread finished one part of a message that has many: it does not hang."""
    pool: WorkerThreads | None = getattr(_thread, "pool", None)
    if pool is not None:
        pool.advance()
