"""A Dramatiq broker and worker that wait for messages instead of polling for them (decision 32)."""

import time
from collections.abc import Collection
from queue import Empty, PriorityQueue
from typing import Any

from dramatiq import MessageProxy, Worker
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from redis.exceptions import ConnectionError

from actors import paused_queues

# How long one wait lasts, in which nothing stops it: a stopping worker waits for its consumers.
WAIT_S = 2.0
# How often a consumer asks by a command of Dramatiq, which counts a worker that asks for nothing as dead, and
# gives its messages to others (`heartbeat_timeout` of actors/broker.py).
_ASK_EVERY_S = 10.0
# How often the consumer of a paused queue looks whether it was resumed.
_PAUSED_POLL_S = 0.2


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


class _WaitingConsumer(_RedisConsumer):
    """Returns the messages of one queue; None where none comes within WAIT_S."""

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._key = f"{broker.namespace}:{queue_name}"
        self._asked_at = time.monotonic()

    def __next__(self) -> MessageProxy | None:
        self._report_alive()
        # What is in the cache is handled; `paused_queues.set_aside` then has it.
        if not self.message_cache and self.outstanding_message_count < self.prefetch:
            if self._is_paused():
                time.sleep(_PAUSED_POLL_S)
                return None
            # The queue may be paused while this waits.
            if not self._arrives() or self._is_paused():
                return None
        message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        return message

    def _is_paused(self) -> bool:
        return paused_queues.is_paused(self.queue_name)

    def _report_alive(self) -> None:
        """Asks Redis something once in a while, also when there is no room for another message."""
        if time.monotonic() - self._asked_at >= _ASK_EVERY_S:
            self._asked_at = time.monotonic()
            try:
                self.broker.do_qsize(self.queue_name)
            except ConnectionError as error:
                raise ConnectionClosed(error) from None

    def _arrives(self) -> bool:
        """Waits until the queue has a message; False when none comes.

        Moves the first message from the head of the queue to the head of the queue, which changes nothing:
        Redis has no command that waits for a list without taking something from it.
        """
        try:
            waiting: Any = self.broker.client.blmove(self._key, self._key, WAIT_S, "LEFT", "LEFT")
        except ConnectionError as error:
            raise ConnectionClosed(error) from None
        return waiting is not None


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
        self.work_queue.put(_LAST)  # type: ignore[arg-type]
        super().stop(timeout)


class _WorkQueue(PriorityQueue[Any]):
    """Fetched messages. Dramatiq's threads wait for one with a timeout, each of them: here without."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002
        item = super().get(block)
        if item is _LAST:
            self.put(_LAST)
            raise Empty
        return item


class _Last:
    """Follows all messages: every thread that comes to it finds the queue empty."""

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return True


_LAST = _Last()
