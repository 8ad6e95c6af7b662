"""A Dramatiq broker whose consumers wait in Redis for the next message (decision 32)."""

import time
from typing import Any

from dramatiq import MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from redis.exceptions import ConnectionError

# How long one wait lasts: a stopping worker waits for its consumers.
WAIT_S = 1.0
# How often a consumer without messages asks all the same. Dramatiq counts a worker that asks for nothing as
# dead, and gives its messages to others (`heartbeat_timeout` of actors/broker.py).
_ASK_EVERY_S = 10.0


class WaitingBroker(RedisBroker):
    """A RedisBroker with waiting consumers."""

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
        idle = not self.message_cache and self.outstanding_message_count < self.prefetch
        if idle and not self._arrives() and time.monotonic() - self._asked_at < _ASK_EVERY_S:
            return None
        self._asked_at = time.monotonic()
        message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        return message

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
