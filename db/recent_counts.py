"""What all processes count between two samples, in Redis: requests, their durations, finished jobs.

A sample takes the counts and leaves none, so that a Redis that was flushed or restored gives a smaller count
and never a negative one.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from redis import Redis

_KEY = "paywright:recent_counts"


@dataclass
class Counts:
    """Requests by the bucket of their duration, those with a 5xx status, and finished jobs by queue."""

    requests: Counter[int] = field(default_factory=Counter)
    errors: int = 0
    finished: Counter[str] = field(default_factory=Counter)


def add_requests(pipe: Any, buckets: Mapping[int, int], errors: int) -> None:
    """Adds the requests that one process has counted."""
    for bucket, count in buckets.items():
        if count:
            pipe.hincrby(_KEY, f"bucket {bucket}", count)
    if errors:
        pipe.hincrby(_KEY, "errors", errors)


def add_finished(client: Redis, finished: Mapping[str, int]) -> None:
    """Adds the jobs that one process has finished, by queue. Raises redis.Unreachable."""
    with client.pipeline(transaction=True) as pipe:
        for queue, count in finished.items():
            pipe.hincrby(_KEY, f"finished {queue}", count)
        pipe.execute()


def take(client: Redis) -> Counts:
    """Returns what was counted since the last call, and removes it. Raises redis.Unreachable."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hgetall(_KEY)
        pipe.delete(_KEY)
        counted = cast(dict[bytes, bytes], pipe.execute()[0])
    counts = Counts()
    for counter, value in counted.items():
        name, _, part = counter.decode().partition(" ")
        if name == "bucket":
            counts.requests[int(part)] = int(value)
        elif name == "finished":
            counts.finished[part] = int(value)
        else:
            counts.errors = int(value)
    return counts
