"""Fair shares: limits how many threads of a worker process the jobs of one customer occupy.

A job above its customer's share is set aside before it begins, and a thread that finishes a job of the same
customer begins it next; nothing polls. Meanwhile the job has no lease and its attempts do not count. It is
not sent again while this process lives.
"""

import threading
from collections import deque
from uuid import UUID

from db import job_journal

# How many jobs one process sets aside. A job above that is sent again after this many seconds.
SET_ASIDE_MAX, POSTPONE_S = 2000, 30.0


class FairShares:
    """Counts the threads of each customer, and queues the jobs that wait for one. No limit, no waiting."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self._lock = threading.RLock()
        self._closed = False
        self._busy: dict[str, int] = {}
        self._waiting: dict[str, deque[UUID]] = {}
        _all.append(self)

    def acquire(self, key: str) -> bool:
        """Takes a thread of the customer's share, to be given back by `release`; False when none is free."""
        with self._lock:
            busy = self._busy.get(key, 0)
            if self.limit is not None and busy >= self.limit:
                return False
            self._busy[key] = busy + 1
            return True

    def acquire_next(self, key: str) -> UUID | None:
        """Takes a thread of the customer's share for the next waiting job; None if either is missing."""
        with self._lock:
            waiting = self._waiting.get(key)
            if not waiting or self._closed or not self.acquire(key):
                return None
            id = waiting.popleft()
            if not waiting:
                del self._waiting[key]
            return id

    def release(self, key: str) -> None:
        """Gives a thread of the customer's share back."""
        with self._lock:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]

    def has_room(self) -> bool:
        """Whether another job may be set aside."""
        with self._lock:
            return not self._closed and len(self.waiting_ids()) < SET_ASIDE_MAX

    def set_aside(self, key: str, id: UUID) -> None:
        """Queues a job for a thread of the customer's share.

        The caller must call `acquire_next` afterwards: a thread released in between has not seen the job.
        """
        with self._lock:
            waiting = self._waiting.setdefault(key, deque())
            if id not in waiting:
                waiting.append(id)

    def waiting_ids(self) -> list[UUID]:
        """Returns the jobs that are set aside."""
        with self._lock:
            return [id for waiting in self._waiting.values() for id in waiting]

    def close(self) -> list[UUID]:
        """Begins no further waiting job, and forgets all of them; returns their ids."""
        with self._lock:
            self._closed = True
            ids = self.waiting_ids()
            self._waiting.clear()
            return ids


_all: list[FairShares] = []


def waiting_ids() -> list[UUID]:
    """Returns the jobs that this process has set aside."""
    return [id for shares in _all for id in shares.waiting_ids()]


def close() -> None:
    """Makes the jobs that this process has set aside due at once, for other processes. Needs a connection."""
    ids = [id for shares in _all for id in shares.close()]
    if ids:
        job_journal.postpone(ids, 0)
