"""The broker: sends messages to workers through Redis. Workers wait there instead of polling (decision 32).

The only module that makes a Dramatiq broker.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from queue import Empty, PriorityQueue
from typing import Any, cast
from uuid import UUID, uuid4

import dramatiq
from dramatiq import MessageProxy, Worker
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from dramatiq.worker import _WorkQueueItem
from redis.exceptions import ConnectionError, NoScriptError

from actors import queue_state
from actors.worker_threads import Turn
from db import redis
from db.core.logs import Outage
from db.job_journal import Job

# For how long the wake-up of a batch job suppresses further ones. A wake-up may get lost: then the next one
# is sent after this time, sooner than the relay would send one.
_WAKEUP_TTL_MS = 2_000
# Each wake-up has three keys (of the wake-up, the queue's messages, the queue) and two arguments (the
# message's key, the message).
_SEND_WAKEUPS_IF_NONE_WAIT = """
for i = 0, #KEYS / 3 - 1 do
    if redis.call('set', KEYS[3 * i + 1], '1', 'NX', 'PX', ARGV[#ARGV]) then
        redis.call('hset', KEYS[3 * i + 2], ARGV[2 * i + 1], ARGV[2 * i + 2])
        redis.call('rpush', KEYS[3 * i + 3], ARGV[2 * i + 1])
    end
end
"""
_PUBLISH_ALL = "for i = 1, #ARGV, 2 do redis.call('publish', ARGV[i], ARGV[i + 1]) end"

# How long a consumer waits for a message. Nothing interrupts this wait, so that a stopping worker has to wait
# for it. Redis ends it when its timer runs: with `hz 2` up to half a second later.
WAIT_S = 2.0
# How often a consumer that does not wait, because its queue is paused or it has no room, sends a command of
# Dramatiq. A worker that sends none for `heartbeat_timeout` counts as dead, and its messages are given to
# others. Every wait ends with such a command.
_ASK_EVERY_S = 10.0
# How often the consumer of a paused queue checks whether the queue was resumed.
_PAUSED_POLL_S = 0.2

_broker: RedisBroker | None = None
_outage = Outage("redis", sender="relay")
# The jobs whose messages are not sent yet, and the turn of the thread that sends them.
_unsent: deque[Job] = deque()
_sending = Turn()


def configure(url: str, *, timeout: float) -> RedisBroker:
    """Makes the broker of this process; `timeout`, in seconds, bounds each answer. Connects to nothing."""
    global _broker
    _broker = new_broker(url, timeout=timeout)
    dramatiq.set_broker(_broker)
    return _broker


def new_broker(url: str, *, timeout: float) -> "WaitingBroker":
    """Makes a broker. Each Dramatiq worker of a process listens to a broker of its own.

    It has no middleware: the job journal provides retries, delays and results, and a time limit would not
    interrupt a blocked thread (actors/job_leases.py). Dramatiq's maintenance returns the messages of dead
    workers to their queue. By default it runs with one command in a thousand: for an idle queue, whose
    consumer sends a command every two seconds, that is every half hour. With one in twenty, it is every 40
    seconds.
    """
    return WaitingBroker(  # type: ignore[no-untyped-call]
        client=redis.connect(url, timeout=timeout),
        middleware=[],
        maintenance_chance=50_000,
        heartbeat_timeout=30_000,
        dead_message_ttl=3_600_000,
    )


def register(name: str, queue: str, handle: Callable[[str], None], served_broker: RedisBroker) -> None:
    """Registers the function that handles the messages of a job. Its argument is the job's id."""
    dramatiq.Actor(handle, broker=served_broker, actor_name=name, queue_name=queue, priority=0, options={})


def push(jobs: Iterable[Job]) -> int:
    """Sends the messages of jobs in one round trip, and returns how many. Raises redis.Unreachable.

    One message serves all jobs of a name that share it (`job.shared`); none is sent while one waits. Other
    messages are written by two plain commands each, because Dramatiq's own script would need a round trip for
    each; a test compares their layout in Redis with that of the installed version.
    """
    broker = current()
    named: dict[str | UUID, Job] = {}
    for job in jobs:
        named.setdefault(job.name if job.shared else job.id, job)
    with broker.client.pipeline(transaction=False) as pipe:
        for shared, group in groupby(named.values(), key=lambda job: job.shared):
            keys: list[str] = []
            arguments: list[str | bytes] = []
            for job in group:
                # New for each message: two messages of one job may be in Redis at the same time.
                message_key, queue = str(uuid4()), f"{broker.namespace}:{job.queue}"
                message = _message(job, message_key)
                if shared:
                    keys += [_wakeup_key(job.name), f"{queue}.msgs", queue]
                    arguments += [message_key, message]
                else:
                    pipe.hset(f"{queue}.msgs", message_key, message)
                    pipe.rpush(queue, message_key)
            if shared:
                pipe.eval(_SEND_WAKEUPS_IF_NONE_WAIT, len(keys), *keys, *arguments, _WAKEUP_TTL_MS)
        pipe.execute()
    return len(named)


def _message(job: Job, key: str) -> bytes:
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name=job.queue,
        actor_name=job.name,
        args=(str(job.id),),
        kwargs={},
        options={"redis_message_id": key},
        message_id=str(job.id),
    )
    return message.encode()


def try_push(jobs: Sequence[Job]) -> None:
    """Sends the messages of jobs that were just committed. Where that fails, the relay sends them later.

    Sends nothing in a process without a broker, such as a command. While a thread is sending, jobs that come
    meanwhile are sent together afterwards: one round trip for many commits.
    """
    if _broker is not None and jobs:
        _unsent.extend(jobs)
        # This thread, whose caller waits, sends once. Under load there is always more to send.
        _sending.run(_push_unsent, hand_over=True)


def _push_unsent() -> None:
    """Sends the messages of all jobs in `_unsent`; logs an outage of Redis."""
    jobs = [_unsent.popleft() for _ in range(len(_unsent))]
    if not jobs:
        # The call before has sent all. An empty push would count as an answer of Redis.
        return
    try:
        with redis.guarded(cast(redis.Client, current().client)):
            push(jobs)
    except redis.Suspended:
        return
    except redis.Unreachable as error:
        _outage.began(error)
    else:
        _outage.ended()


def clear_wakeup(name: str) -> None:
    """Marks the wake-up of a batch job as received. The caller reads the journal afterwards.

    A job that was committed while the wake-up stood has sent no message.
    """
    with suppress(redis.Unreachable):
        if _broker is not None:
            _broker.client.delete(_wakeup_key(name))


def _wakeup_key(name: str) -> str:
    return f"{current().namespace}:waiting:{name}"


def publish(channel: str, messages: Iterable[bytes], *, last: tuple[str, str] | None = None) -> None:
    """Publishes messages on a channel, in order. Raises redis.Unreachable.

    `last` is a channel and a message that is published on it after the others. A script sends them all: it
    has one answer, so that the client's timeout bounds the whole call.
    """
    arguments = [argument for message in messages for argument in (channel, message)]
    current().client.eval(_PUBLISH_ALL, 0, *arguments, *(last or ()))


def oldest_message_at(queue: str) -> datetime | None:
    """Returns when the first waiting message of a queue was sent; None when none waits.

    Messages that a worker has fetched do not count. Raises redis.Unreachable.
    """
    broker = current()
    message_key: Any = broker.client.lindex(f"{broker.namespace}:{queue}", 0)
    encoded: Any = (
        broker.client.hget(f"{broker.namespace}:{queue}.msgs", message_key) if message_key else None
    )
    if encoded is None:
        return None
    return datetime.fromtimestamp(dramatiq.Message.decode(encoded).message_timestamp / 1000, UTC)


def current() -> RedisBroker:
    """Returns this process's broker. Raises RuntimeError before `configure`."""
    if _broker is None:
        raise RuntimeError("This process has no broker. Its entry point has to call broker.configure().")
    return _broker


class WaitingBroker(RedisBroker):
    """A RedisBroker with waiting consumers, and without delayed messages: the journal delays jobs."""

    def declare_queue(self, queue_name: str) -> None:
        """Declares a queue, and not the queue of its delayed messages, so that no consumer waits for them."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> "_WaitingConsumer":
        """Returns a consumer of this queue. `timeout` is in milliseconds."""
        return _WaitingConsumer(self, queue_name, prefetch, timeout)

    def fetch_by(self, pipe: Any, queue_name: str, prefetch: int) -> None:
        """Adds to a pipeline the command that `do_fetch` would send in a round trip of its own."""
        arguments = [
            "fetch",
            int(time.time() * 1000),
            queue_name,
            self.broker_id,
            self.heartbeat_timeout,
            self.dead_message_ttl,
            self._should_do_maintenance("fetch"),
            self._max_unpack_size(),  # type: ignore[no-untyped-call]
            prefetch,
        ]
        pipe.evalsha(self.scripts["dispatch"].sha, 1, self.namespace, *arguments)


class _WaitingConsumer(_RedisConsumer):
    """Returns the messages of one queue; None where none comes within WAIT_S."""

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._key = f"{broker.namespace}:{queue_name}"
        self._asked_at = time.monotonic()

    def __next__(self) -> MessageProxy | None:
        self._report_alive()
        # Messages in the cache are returned though the queue is paused: `queue_state.set_aside` keeps them.
        if not self.message_cache and self.outstanding_message_count < self.prefetch:
            if queue_state.is_paused(self.queue_name):
                time.sleep(_PAUSED_POLL_S)
                return None
            messages = self._wait()
            if queue_state.is_paused(self.queue_name):
                # The queue was paused during the wait.
                self.requeue([dramatiq.Message.decode(message) for message in messages if message])
                return None
            if not messages:
                return None
            self.message_cache = messages
        message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        return message

    def requeue(self, messages: Iterable[Any]) -> None:
        """Returns fetched messages to their queue. Raises ConnectionClosed, which the callers expect."""
        try:
            super().requeue(messages)  # type: ignore[no-untyped-call]
        except ConnectionError as error:
            raise ConnectionClosed(error) from None

    def _report_alive(self) -> None:
        """Asks Redis something once in a while, also when there is no room for another message."""
        if time.monotonic() - self._asked_at >= _ASK_EVERY_S:
            self._asked_at = time.monotonic()
            try:
                self.broker.do_qsize(self.queue_name)
            except ConnectionError as error:
                raise ConnectionClosed(error) from None

    def _wait(self) -> list[bytes | None]:
        """Waits until the queue has messages and returns them, in one round trip; an empty list after WAIT_S.

        A message of which Redis has only the key is None.

        The command that waits moves the first message from the head of the queue to the head of the queue,
        which changes nothing: Redis has no command that waits for a list without taking an element.
        """
        room = self.prefetch - self.outstanding_message_count
        try:
            with self.broker.client.pipeline(transaction=False) as pipe:
                pipe.blmove(self._key, self._key, WAIT_S, "LEFT", "LEFT")
                self.broker.fetch_by(pipe, self.queue_name, room)
                waiting, messages = pipe.execute(raise_on_error=False)
            if isinstance(waiting, Exception):
                raise waiting
            if isinstance(messages, NoScriptError):
                # Redis was restarted: Dramatiq loads its script again.
                messages = self.broker.do_fetch(self.queue_name, room)
            elif isinstance(messages, Exception):
                raise messages
        except ConnectionError as error:
            raise ConnectionClosed(error) from None
        self._asked_at = time.monotonic()
        return cast(list[bytes | None], messages)


class WaitingWorker(Worker):
    """A Worker whose threads sleep until there is a message, or until they have to stop."""

    def __init__(
        self, broker: WaitingBroker, queues: Collection[str], threads: int, *, fetch_pause_ms: int
    ) -> None:
        super().__init__(broker, queues=set(queues), worker_threads=threads, worker_timeout=fetch_pause_ms)
        self.work_queue = _WorkQueue()

    def stop(self, timeout: int = 600_000) -> None:
        """Stops after the messages that are being handled. `timeout` is in milliseconds."""
        # Dramatiq stops its consumers last, which would add the time of their last wait.
        for consumer in self.consumers.values():
            consumer.stop()
        for thread in self.workers:
            thread.stop()
        self.work_queue.put(_LAST)
        super().stop(timeout)


class _WorkQueue(PriorityQueue[Any]):
    """Fetched messages. Dramatiq's threads wake up at each timeout while there are none; here they sleep."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002
        item = super().get(block)
        if item is _LAST:
            self.put(_LAST)
            raise Empty
        return item


# Follows all messages: every thread that comes to it finds the queue empty.
_LAST = _WorkQueueItem(sys.maxsize, cast(MessageProxy, None))
