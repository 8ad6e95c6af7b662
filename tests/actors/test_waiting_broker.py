"""A worker without messages waits in Redis; a message reaches it at once."""

import threading
import time

import dramatiq
import pytest

from actors import broker
from actors.waiting_broker import WAIT_S
from tests.counting import counted


@pytest.fixture
def served(stores: dict[str, str]):
    made = broker.new_broker(stores["REDIS_URL"], timeout=5)
    made.client.flushdb()
    made.declare_queue("waited-for")
    return made


def send(served, text: str = "hello") -> None:
    served.enqueue(
        dramatiq.Message(queue_name="waited-for", actor_name="any", args=(text,), kwargs={}, options={})
    )


def test_a_message_that_waits_is_returned_at_once(served):
    send(served)
    assert next(served.consume("waited-for")).args == ("hello",)


def test_a_message_that_comes_later_ends_the_wait(served):
    consumer = served.consume("waited-for")
    timer = threading.Timer(0.1, send, [served])
    timer.start()
    began = time.monotonic()
    message = next(consumer)
    assert message is not None
    assert time.monotonic() - began < WAIT_S


def test_waiting_takes_no_message_away_from_another_worker(served):
    send(served)
    first, second = served.consume("waited-for"), served.consume("waited-for")
    assert first._arrives()
    assert second._arrives()
    assert next(second).args == ("hello",)
    assert next(first) is None


def test_a_worker_without_messages_asks_redis_once_a_second(served):
    consumer = served.consume("waited-for")
    with counted() as asked:
        assert next(consumer) is None
    assert len(asked.trips) == 1


def test_messages_keep_their_order(served):
    for text in ("a", "b", "c"):
        send(served, text)
    consumer = served.consume("waited-for", prefetch=3)
    assert [next(consumer).args[0] for _ in range(3)] == ["a", "b", "c"]
