"""How many jobs of each queue this process has finished since it last moved the counts to Redis."""

import threading
from collections import Counter

from db import redis, shared_counts

_lock = threading.Lock()
_finished: Counter[str] = Counter()


def count(queue: str, jobs: int) -> None:
    """Counts jobs whose transaction is committed."""
    with _lock:
        _finished[queue] += jobs


def flush(client: redis.Client) -> None:
    """Moves the counts of this process to Redis; while Redis is away they are kept for the next time."""
    global _finished
    with _lock:
        finished, _finished = _finished, Counter()
    if not finished:
        return
    try:
        shared_counts.add_finished(client, finished)
    except redis.Unreachable:
        with _lock:
            _finished.update(finished)
