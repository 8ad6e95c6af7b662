"""The state of queues in a worker: which are paused, and how many jobs of each this process has finished.

Operators pause a queue (`queues.paused`) to stop its jobs without losing any. A worker finishes the jobs that
it has begun. Its consumers leave the messages of a paused queue in Redis, the jobs wait in the journal, and
the relay counts no attempts. A message that was fetched before the pause is set aside, and sent again by the
same process when the queue is resumed; if the process ends, the relay sends the job again.
"""

import threading
from collections import Counter
from uuid import UUID

from db import config, redis, shared_counts
from db.core.ids import uuid7
from db.job_journal import Job

# Kept here, so that a worker does not read the configuration before each message.
_paused: frozenset[str] = frozenset()
# The messages that were set aside, by job.
_set_aside: dict[tuple[str, UUID], Job] = {}
# The jobs of each queue that this process has finished since it last moved their numbers to Redis.
_finished: Counter[str] = Counter()
_finished_lock = threading.Lock()


def is_paused(queue: str) -> bool:
    """Returns whether a queue is paused, as far as this process knows."""
    return queue in _paused


def set_aside(queue: str, name: str, id: UUID | None = None) -> bool:
    """Sets a message about a job aside if its queue is paused; returns whether the queue is paused.

    Without an id, the message is one that wakes a worker for all jobs of the name.
    """
    if queue not in _paused:
        return False
    _set_aside[name, id or UUID(int=0)] = Job(id or uuid7(), name, queue, {}, None)
    return True


def refresh_paused() -> list[Job]:
    """Reads which queues are paused; returns the jobs of resumed queues whose messages were set aside."""
    global _paused
    _paused = config.read_paused_queues()
    resumed = [key for key, job in list(_set_aside.items()) if job.queue not in _paused]
    return [_set_aside.pop(key) for key in resumed]


def count_finished(queue: str, jobs: int) -> None:
    """Counts finished jobs of a queue. Call it after their transaction has committed."""
    with _finished_lock:
        _finished[queue] += jobs


def flush_finished(client: redis.Client) -> None:
    """Moves the counts of this process to Redis; while Redis is away they are kept for the next time."""
    global _finished
    with _finished_lock:
        finished, _finished = _finished, Counter()
    if not finished:
        return
    try:
        shared_counts.add_finished(client, finished)
    except redis.Unreachable:
        with _finished_lock:
            _finished.update(finished)
