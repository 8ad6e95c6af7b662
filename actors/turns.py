"""A turn: of the threads of a process that come for the same work, one does it for all."""

import threading
from collections.abc import Callable


class Turn:
    """Lets one thread at a time do some work, and once more if another thread came for it meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = self._requested = False

    def run(self, work: Callable[[], object]) -> None:
        """Calls `work`, again for threads that come meanwhile; leaves it to the thread that has the turn.

        Whatever a thread provides for `work` before it calls this, such as a committed row or an entry of a
        queue, is seen by a call of `work` that begins afterwards.
        """
        with self._lock:
            self._requested = True
            if self._taken:
                return
            self._taken = True
        try:
            while self._begin():
                work()
        except BaseException:
            with self._lock:
                self._taken = False
            raise

    def request(self) -> None:
        """Has the work done once more by the thread that has the turn, which is the caller."""
        with self._lock:
            self._requested = True

    def _begin(self) -> bool:
        """Takes the request; gives the turn back if there is none."""
        with self._lock:
            self._taken = self._requested
            self._requested = False
            return self._taken
