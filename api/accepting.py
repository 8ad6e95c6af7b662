"""Which process accepts a connection: the processes of one machine serve about as many each.

The kernel wakes all of them for a new connection, and the first one gets it. Under load that is often the
same one: it had all sixteen connections of a client while the other process had none.
"""

import mmap
import time
from collections.abc import Callable
from typing import Any

from gevent.pool import Pool
from gevent.server import StreamServer

# A worker of gunicorn lives beside its successor for a while.
MAX_PROCESSES = 128

# A process that has more connections than another leaves a new one to it, and looks again after a moment. The
# other may be busy, or frozen: then it leaves no more until another process has accepted one.
_LOOK_AGAIN_AFTER_S, _LEAVE_AT_MOST_S = 0.001, 0.1


class OpenConnections:
    """How many connections each process has, in memory that they share. Created before they are forked."""

    _ABSENT = -1

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, MAX_PROCESSES * 4)).cast("i")
        self._accepted = memoryview(mmap.mmap(-1, MAX_PROCESSES * 8)).cast("Q")
        for place in range(MAX_PROCESSES):
            self._counts[place] = self._ABSENT

    def take_place(self) -> int:
        """Returns the place of a new process. A process without a free place shares the last one."""
        free = (place for place in range(MAX_PROCESSES) if self._counts[place] == self._ABSENT)
        place = next(free, MAX_PROCESSES - 1)
        self._counts[place] = 0
        return place

    def leave_place(self, place: int) -> None:
        """A process has ended."""
        self._counts[place] = self._ABSENT

    def opened(self, place: int) -> None:
        """The process at this place has accepted a connection."""
        self._counts[place] += 1
        self._accepted[place] += 1

    def closed(self, place: int) -> None:
        """The process at this place has closed a connection."""
        self._counts[place] -= 1

    def accepted_elsewhere(self, place: int) -> int:
        """Returns how many connections the other processes have ever accepted."""
        return sum(self._accepted) - self._accepted[place]

    def is_ahead(self, place: int) -> bool:
        """Tells whether another process has clearly fewer connections."""
        fewest = min((count for count in self._counts if count != self._ABSENT), default=0)
        return self._counts[place] > fewest + fewest // 8


open_connections = OpenConnections()


class Server(StreamServer):  # type: ignore[misc]
    """Accepts connections of one socket for one process."""

    # Then the processes take turns.
    max_accept = 1

    def __init__(self, listener: Any, handle: Callable[..., None], *, limit: int, place: int) -> None:
        super().__init__(listener, handle, spawn=Pool(limit))
        self._place = place
        # Since when connections are left to others, and how many those had accepted then.
        self._leaving_since = 0.0
        self._accepted_elsewhere = -1

    def do_read(self) -> Any:
        """Accepts a connection, unless another process should."""
        if open_connections.is_ahead(self._place) and self._may_leave_one():
            self.stop_accepting()
            self._timer = self.loop.timer(_LOOK_AGAIN_AFTER_S)
            self._timer.start(self._start_accepting_if_started)
            return None
        return super().do_read()

    def _may_leave_one(self) -> bool:
        now, accepted = time.monotonic(), open_connections.accepted_elsewhere(self._place)
        if accepted != self._accepted_elsewhere:
            self._leaving_since, self._accepted_elsewhere = now, accepted
        return now - self._leaving_since < _LEAVE_AT_MOST_S
