"""The relay process: sends jobs again whose message was not sent, was lost, or met a worker that died.

Any number of them may run.
"""

import structlog

from actors import all_jobs, broker, jobs
from db import postgres, redelivery, redis
from db.job_journal import Job
from workers import process

log = structlog.get_logger(__name__)

# How many jobs of a queue one pass sends, and how long the relay rests after a pass that sent fewer.
RESEND_BATCH, _REST_S = 200, 0.5


def once() -> int:
    """Sends the overdue jobs, each counted as an attempt; returns how many. Raises redis.Unreachable.

    Sends after the commit: a worker that is faster than the commit would find the row locked, take the job
    for another worker's, and drop the message. A message that cannot be sent costs no attempt.
    """
    sent = 0
    with postgres.connection():
        for queue in redelivery.overdue_queues(all_jobs.queues()):
            oldest = broker.oldest_message_at(queue)
            with postgres.database.atomic():
                overdue, dead = redelivery.resend(queue, oldest, RESEND_BATCH)
            _log_dead(dead)
            _push(overdue, counted=overdue)
            sent += len(overdue)
        for first in redelivery.overdue_batches(all_jobs.batch_job_names()):
            oldest = broker.oldest_message_at(first.queue)
            with postgres.database.atomic():
                overdue, dead = redelivery.resend_batch(first.name, oldest, jobs.BATCH_SIZE)
            _log_dead(dead)
            _push(overdue[:1], counted=overdue)
            sent += len(overdue[:1])
    if sent:
        log.info("jobs sent again", jobs=sent)
    return sent


def _push(overdue: list[Job], *, counted: list[Job]) -> None:
    """Sends messages; where that fails, takes back the attempts that were counted for them."""
    try:
        broker.push(overdue)
    except redis.Unreachable:
        redelivery.undo_resend(counted)
        raise


def _log_dead(dead: list[Job]) -> None:
    for job in dead:
        log.error("job dead", job=job.name, job_id=str(job.id), attempts=job.attempts)


def run() -> None:
    """Sends overdue jobs again and again until the process is stopped."""
    client = redis.connect(process.start().redis_url)
    process.repeat(
        "relay",
        lambda: once() >= RESEND_BATCH,
        client,
        process.until_stopped(),
        rest=lambda stopped: stopped.wait(_REST_S),
    )


if __name__ == "__main__":
    run()
