"""The relay process: sends jobs again whose message was not sent, was lost, or met a worker that died.

Any number of them may run.
"""

import threading
import time

import structlog

from actors import broker, jobs
from actors.batch_jobs import BATCH_SIZE, BatchJob
from actors.external_calls import CallingKind
from db import config, postgres, redelivery, redis
from db.job_journal import Job
from workers import process

log = structlog.get_logger(__name__)

# How many jobs of a queue one pass sends at most.
RESEND_BATCH = 200
# How long the relay rests after a pass that sent fewer: longer when none was overdue for a while.
_REST_S = 0.5
_IDLE_REST_S = 1.0
_IDLE_AFTER_S = 30.0


def once() -> int:
    """Sends the overdue jobs, each counted as an attempt; returns how many. Raises redis.Unreachable.

    Sends after the commit: a worker that is faster than the commit would find the row locked, take the job
    for another worker's, and drop the message. A message that cannot be sent costs no attempt.
    """
    sent = 0
    with postgres.connection():
        batches, leased = jobs.names_of(BatchJob, ()), jobs.names_of(CallingKind, ())
        if (back_s := redelivery.overdue_within_s(jobs.queues(), batches, leased)) is None:
            return 0
        # What waits on a paused queue is not overdue.
        paused = config.paused_queues()
        for queue in redelivery.overdue_queues(jobs.queues() - paused, back_s):
            oldest = broker.oldest_message_at(queue)
            with postgres.database.atomic():
                overdue, dead = redelivery.resend(queue, oldest, RESEND_BATCH)
            if len(overdue) + len(dead) >= RESEND_BATCH:
                redelivery.search_fully_next()
            sent += _send(overdue, dead)
        for first in redelivery.overdue_batches(jobs.names_of(BatchJob, paused)):
            oldest = broker.oldest_message_at(first.queue)
            with postgres.database.atomic():
                overdue, dead = redelivery.resend_batch(first.name, oldest, BATCH_SIZE)
            sent += _send(overdue, dead)
        broker.push(redelivery.overdue_leases(jobs.names_of(CallingKind, paused)))
    if sent:
        log.info("jobs sent again", jobs=sent)
    return sent


def _send(overdue: list[Job], dead: list[Job]) -> int:
    """Sends the messages of overdue jobs and returns how many; where that fails, takes the attempts back."""
    for job in dead:
        log.error("job dead", job=job.name, job_id=str(job.id), attempts=job.attempts)
    try:
        return broker.push(overdue)
    except redis.Unreachable:
        redelivery.undo_resend(overdue)
        raise


def run() -> None:
    """Sends overdue jobs again and again until the process is stopped."""
    client = redis.connect(process.start("relay").redis_url)
    sent_at = time.monotonic()

    def send() -> bool:
        nonlocal sent_at
        if sent := once():
            sent_at = time.monotonic()
        return sent >= RESEND_BATCH

    def rest(stopped: threading.Event) -> None:
        is_idle = time.monotonic() - sent_at > _IDLE_AFTER_S
        stopped.wait(_IDLE_REST_S if is_idle else _REST_S)

    process.repeat("relay", send, client, process.until_stopped(), rest=rest)


if __name__ == "__main__":
    process.refuse_arguments("workers.relay")
    run()
