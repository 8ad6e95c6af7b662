"""The relay: sends what the fast path did not, what Redis forgot and what a dead worker had in hand.

`python -m workers.relay` runs it, any number of them; `python -m workers.relay revive [ID ...]` gives dead
promises another life.
"""

import sys
from collections.abc import Collection
from uuid import UUID

import structlog

from actors import all_jobs, broker, jobs
from db import heartbeats, job_journal, postgres, redis
from workers import process

log = structlog.get_logger(__name__)

USAGE = "usage: python -m workers.relay [revive [ID ...]], an ID being that of a dead job"

# How many promises one look sends, and how long it then rests when there were fewer, in seconds.
_BATCH, _REST = 200, 0.5


def once() -> int:
    """Sends overdue jobs again, each counted as an attempt; how many. Raises redis.Unreachable.

    They are sent after the commit: a worker that is quicker than a commit would find the row locked, take it
    for another's, and drop the message. What then cannot be sent costs no attempt. Of jobs that share their
    messages one message is sent for all.
    """
    assert all_jobs
    sent = 0
    with postgres.connection():
        for queue in job_journal.overdue({verb.queue for verb in jobs.registry.values()}):
            oldest = broker.oldest(queue)
            with postgres.database.atomic():
                overdue, dead = job_journal.resend(queue, oldest, _BATCH)
            _bury(dead)
            _push(overdue, counted=overdue)
            sent += len(overdue)
        shared = jobs.batch_job_names()
        for first in job_journal.in_turn(shared):
            oldest = broker.oldest(first.queue)
            with postgres.database.atomic():
                woken, dead = job_journal.wake(first.name, oldest, jobs.BATCH_SIZE)
            _bury(dead)
            _push(woken[:1], shared, counted=woken)
            sent += len(woken[:1])
    return sent


def _push(
    tasks: list[job_journal.Job], shared: Collection[str] = (), *, counted: list[job_journal.Job]
) -> None:
    """Sends messages. Where that fails, what was `counted` for it is taken back: no job was tried."""
    try:
        broker.push(tasks, shared)
    except redis.Unreachable:
        job_journal.undo_send(counted)
        raise


def _bury(dead: list[job_journal.Job]) -> None:
    for task in dead:
        log.error("a promise is dead", name=task.name, task=str(task.id), attempts=task.attempts)


def run() -> None:
    """Looks again and again until told to end."""
    settings = process.start()
    told = process.until_stopped()
    client = redis.connect(settings.redis_url)
    pulse = process.Pulse("relay", process.HANGS_AFTER_S)
    pulse.watch()
    log.info("working", kind="relay")
    sent, well = 0, True
    while not told.wait(0 if sent >= _BATCH else _REST):
        pulse.beat()
        try:
            sent = once()
            heartbeats.beat(client, ["relay"])
        except (*postgres.TRANSIENT_ERRORS, redis.Unreachable) as error:
            # Said once, not twice a second: it may last.
            if well:
                log.warning("a store is away, waiting", error=str(error).strip())
            sent, well = 0, False
        else:
            if not well:
                log.info("the stores are back")
            well = True
            if sent:
                log.info("sent again", promises=sent)


def revive(words: list[str]) -> None:
    """The command: gives dead jobs, all or those with these ids, another set of attempts."""
    try:
        ids = [UUID(word) for word in words]
    except ValueError:
        sys.exit(USAGE)
    process.start()
    with postgres.connection():
        revived = job_journal.retry_dead(ids or None)
    sys.stdout.write(f"{revived} jobs will be sent again\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            run()
        case ["revive", *words]:
            revive(words)
        case _:
            sys.exit(USAGE)
