"""The wire: the only place that makes a Dramatiq broker, and the fast way from a commit to a worker."""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import dramatiq
import structlog
from dramatiq.brokers.redis import RedisBroker

from db import job_journal, redis

# How long a shared message keeps others from being sent, in ms: it may get lost, and the relay is slower.
_WAITS = 2_000
_UNLESS_ONE_WAITS = """
if redis.call('set', KEYS[1], '1', 'NX', 'PX', ARGV[3]) then
    redis.call('hset', KEYS[2], ARGV[1], ARGV[2])
    redis.call('rpush', KEYS[3], ARGV[1])
end
"""

_PUBLISH = "for _, message in ipairs(ARGV) do redis.call('publish', KEYS[1], message) end"

Broker = RedisBroker

log = structlog.get_logger(__name__)

_broker: RedisBroker | None = None
# Whether the fast path reached Redis at its last try.
_well = True


def configure(url: str, *, timeout: float) -> RedisBroker:
    """Makes the broker of this process; `timeout`, in seconds, bounds each answer. Connects to nothing.

    Retries, delays and results are the journal's business, so none of Dramatiq's middleware is used; nor its
    time limit: see actors/job_leases.py. Messages of a dead worker come back by maintenance, which by default is
    drawn too seldom (one command in a thousand) to be of use: measured in quarters of an hour.
    """
    global _broker
    _broker = new_broker(url, timeout=timeout)
    dramatiq.set_broker(_broker)
    return _broker


def new_broker(url: str, *, timeout: float) -> RedisBroker:
    """A broker for one more of Dramatiq's workers in this process: each listens to one of its own."""
    return RedisBroker(
        client=redis.connect(url, timeout=timeout),
        middleware=[],
        maintenance_chance=50_000,
        heartbeat_timeout=30_000,
        dead_message_ttl=3_600_000,
    )


def register(name: str, queue: str, perform: Callable[[str], None], on: RedisBroker) -> None:
    """Lets this process answer messages for a verb, `on` this broker; each carries the id of a promise and
    nothing else."""
    dramatiq.Actor(perform, broker=on, actor_name=name, queue_name=queue, priority=0, options={})


def push(tasks: Iterable[job_journal.Job], shared: Collection[str] = ()) -> None:
    """Sends promises to their queues in one round trip. Raises redis.Unreachable.

    Of a verb in `shared` one message wakes up for all its promises: while one waits, no other is sent.

    Two plain commands a message, as Dramatiq's own script would run them one trip each; a test holds this
    to the installed version's layout.
    """
    broker = opened()
    with broker.client.pipeline(transaction=False) as pipe:
        for task in tasks:
            message: dramatiq.Message[None] = dramatiq.Message(
                queue_name=task.queue,
                actor_name=task.name,
                args=(str(task.id),),
                kwargs={},
                # Dramatiq wants another id at each sending: a message may be in Redis twice.
                options={"redis_message_id": str(uuid4())},
                message_id=str(task.id),
            )
            place, queue = message.options["redis_message_id"], f"{broker.namespace}:{task.queue}"
            if task.name in shared:
                keys = (_waiting(task.name), f"{queue}.msgs", queue)
                pipe.eval(_UNLESS_ONE_WAITS, 3, *keys, place, message.encode(), _WAITS)
            else:
                pipe.hset(f"{queue}.msgs", place, message.encode())
                pipe.rpush(queue, place)
        pipe.execute()


def try_push(tasks: list[job_journal.Job], shared: Collection[str] = ()) -> None:
    """The fast path: sends what was just committed, as far as Redis answers; else the relay will.

    Without a broker, as in a command, everything is the relay's.
    """
    global _well
    if _broker is None or not tasks:
        return
    try:
        with redis.asked(cast(redis.Client, _broker.client)):
            push(tasks, shared)
    except redis.Asleep:
        return
    except redis.Unreachable as error:
        # Said once, not every second: it may last.
        if _well:
            log.warning("redis is away, the relay will send", error=str(error), promises=len(tasks))
        _well = False
    else:
        if not _well:
            log.info("redis is back")
        _well = True


def woken(verb: str) -> None:
    """The message for all promises of a verb waits no longer: said before they are looked for, so that what
    is committed too late to be seen sends another one."""
    with suppress(redis.Unreachable):
        if _broker is not None:
            _broker.client.delete(_waiting(verb))


def _waiting(verb: str) -> str:
    return f"{opened().namespace}:waiting:{verb}"


def publish(channel: str, messages: Iterable[bytes]) -> None:
    """Broadcasts messages in their order, in one round trip with one answer: so the client's timeout bounds
    the whole. Raises redis.Unreachable."""
    opened().client.eval(_PUBLISH, 1, channel, *messages)


def oldest(queue: str) -> datetime | None:
    """When the first of the messages that wait in a queue was sent; None when none waits, those in hand not
    counted. Raises redis.Unreachable."""
    broker = opened()
    place: Any = broker.client.lindex(f"{broker.namespace}:{queue}", 0)
    raw: Any = broker.client.hget(f"{broker.namespace}:{queue}.msgs", place) if place else None
    if raw is None:
        return None
    return datetime.fromtimestamp(dramatiq.Message.decode(raw).message_timestamp / 1000, UTC)


def opened() -> RedisBroker:
    """This process's broker. Raises RuntimeError before `open`."""
    if _broker is None:
        raise RuntimeError("broker.open() was not called by this process's entry point")
    return _broker
