"""Fair shares: of the threads of a crew, the jobs of one customer have a part at most.

What is above a customer's share is set aside without being begun, out of the others' way, and is begun by the
thread that ends a job of the same customer: nobody looks again and again whether there is room. It is in
nobody's hands meanwhile (no lease, no attempt); it only is not sent again as long as this process lives.
"""

import threading
from collections import deque
from uuid import UUID

from db import job_journal

# How much one process sets aside; what comes above it is sent again after so many seconds.
MOST, PUT_OFF_S = 2000, 30.0


class FairShares:
    """Who has how many threads, and what waits for one of them. Without a limit nothing waits."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._busy: dict[str, int] = {}
        self._aside: dict[str, deque[UUID]] = {}
        _all.append(self)

    def enter(self, key: str) -> bool:
        """Takes a thread of a customer's share, to be given back by `leave`; False when all are taken."""
        with self._lock:
            busy = self._busy.get(key, 0)
            if self.limit is not None and busy >= self.limit:
                return False
            self._busy[key] = busy + 1
            return True

    def has_room(self) -> bool:
        """Whether more may be set aside."""
        with self._lock:
            return not self._closed and sum(map(len, self._aside.values())) < MOST

    def set_aside(self, key: str, id: UUID) -> None:
        """Lets a job wait for a thread of the customer's share. The caller then asks `next`: one may be free
        again, and nobody else would see it."""
        with self._lock:
            waiting = self._aside.setdefault(key, deque())
            if id not in waiting:
                waiting.append(id)

    def next(self, key: str) -> UUID | None:
        """What waits and may begin now, in this thread; with it, a thread of the share is taken."""
        with self._lock:
            waiting = self._aside.get(key)
            busy = self._busy.get(key, 0)
            if not waiting or self._closed or (self.limit is not None and busy >= self.limit):
                return None
            self._busy[key] = busy + 1
            id = waiting.popleft()
            if not waiting:
                del self._aside[key]
            return id

    def leave(self, key: str) -> None:
        """Gives a thread of the share back."""
        with self._lock:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]

    def waiting(self) -> list[UUID]:
        """What is set aside."""
        with self._lock:
            return [id for waiting in self._aside.values() for id in waiting]

    def close(self) -> list[UUID]:
        """Begins nothing more of what is set aside, and forgets it; what that was."""
        with self._lock:
            self._closed = True
            given_up = [id for waiting in self._aside.values() for id in waiting]
            self._aside.clear()
            return given_up


_all: list[FairShares] = []


def set_aside() -> list[UUID]:
    """What this process has set aside."""
    return [id for shares in _all for id in shares.waiting()]


def close() -> None:
    """This process ends: what it has set aside is due at once, for others. Needs a connection."""
    ids = [id for shares in _all for id in shares.close()]
    if ids:
        job_journal.postpone(ids, 0)
