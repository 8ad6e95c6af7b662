"""The threads of a worker process: how many have a job in hand, and whether they get on.

A thread that hangs can neither be interrupted nor replaced. When all of them do, the process is: it stops to
beat, so that /health sees it, and then ends, so that whatever runs it starts it again.
"""

import threading
from collections.abc import Callable

_mine = threading.local()


class WorkerThreads:
    """So many threads that answer messages."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._busy = self._moves = 0
        self._seen, self._still = -1, 0

    def doing(self, perform: Callable[[str], None]) -> Callable[[str], None]:
        """What answers a message, with the thread counted as busy meanwhile."""

        def counted(id: str) -> None:
            _mine.crew = self
            self._moved(1)
            try:
                perform(id)
            finally:
                self._moved(-1)

        return counted

    def look(self) -> int:
        """How many looks in a row all threads were busy and none of them got on.

        Counted by looks and not by a clock: while the whole process is frozen, nobody looks. One thread alone
        may have a long job, so it is never taken for one that hangs.
        """
        with self._lock:
            hangs = self._threads > 1 and self._busy >= self._threads and self._moves == self._seen
            self._seen, self._still = self._moves, self._still + 1 if hangs else 0
            return self._still

    def _moved(self, busy: int) -> None:
        with self._lock:
            self._busy += busy
            self._moves += 1

    def got_on(self) -> None:
        """A thread did a part of a job that has many."""
        self._moved(0)


def made_progress() -> None:
    """This thread did a part of a job that has many: it does not hang."""
    crew: WorkerThreads | None = getattr(_mine, "crew", None)
    if crew is not None:
        crew.got_on()
