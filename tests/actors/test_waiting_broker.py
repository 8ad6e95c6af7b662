"""A worker without messages waits in Redis; a message reaches it at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dramatiq
import pytest
from dramatiq.errors import ConnectionClosed

from actors import broker
from actors.broker import WaitingWorker
from tests.counting import counted
from tests.makers import until


@pytest.fixture
def served(stores: dict[str, str]):
    made = broker.new_broker(stores["REDIS_URL"], timeout=30)
    made.client.flushdb()
    made.declare_queue("waited-for")
    yield made
    made.client.connection_pool.disconnect()


def send(served, text: str = "hello") -> None:
    served.enqueue(
        dramatiq.Message(queue_name="waited-for", actor_name="any", args=(text,), kwargs={}, options={})
    )


def test_a_message_that_waits_is_returned_at_once(served):
    send(served)
    assert next(served.consume("waited-for")).args == ("hello",)


def test_a_message_that_comes_later_ends_the_wait(served, monkeypatch):
    monkeypatch.setattr(broker, "WAIT_S", 4.0)
    consumer = served.consume("waited-for")
    timer = threading.Timer(0.1, send, [served])
    timer.start()
    began = time.monotonic()
    message = next(consumer)
    assert message is not None
    assert time.monotonic() - began < 4.0
    # It may still read the answer by the connection that the fixture closes.
    timer.join()


def test_of_two_workers_that_wait_one_gets_the_message(served, monkeypatch):
    monkeypatch.setattr(broker, "WAIT_S", 0.5)
    consumers = [served.consume("waited-for") for _ in range(2)]
    received: list[dramatiq.MessageProxy] = []

    def receive(consumer) -> None:
        # Its first wait may end before the message is sent.
        while not received:
            received.extend(filter(None, [next(consumer)]))

    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(receive, consumer) for consumer in consumers]
        send(served)
        for each in waiting:
            each.result()
    assert [message.args for message in received] == [("hello",)]


def test_a_message_is_received_in_the_round_trip_that_waits_for_it(served):
    send(served)
    consumer = served.consume("waited-for")
    with counted() as asked:
        assert next(consumer).args == ("hello",)
    assert len(asked.trips) == 1


def test_a_message_is_received_though_redis_has_lost_the_script_that_fetches(served):
    send(served)
    served.client.script_flush()
    consumer = served.consume("waited-for")
    assert next(consumer).args == ("hello",)


def test_a_consumer_takes_no_more_than_it_has_room_for_though_redis_has_lost_the_script(served):
    for text in ("a", "b", "c"):
        send(served, text)
    consumer, other = (served.consume("waited-for", prefetch=2) for _ in range(2))
    consumer.prefetch = 1
    assert next(consumer).args == ("a",)
    consumer.prefetch = 2
    served.client.script_flush()
    assert next(consumer).args == ("b",)
    assert next(other).args == ("c",)


def test_a_worker_without_messages_counts_as_alive_though_redis_has_lost_the_script(served, monkeypatch):
    monkeypatch.setattr(broker, "WAIT_S", 0.05)
    consumer = served.consume("waited-for")
    served.client.script_flush()
    assert next(consumer) is None
    assert served.client.zscore(f"{served.namespace}:__heartbeats__", served.broker_id)


def test_a_wait_is_a_sign_of_life_and_needs_no_other(served, monkeypatch):
    monkeypatch.setattr(broker, "_ASK_EVERY_S", 0.5)
    monkeypatch.setattr(broker, "WAIT_S", 0.6)
    consumer = served.consume("waited-for")
    with counted() as asked:
        assert next(consumer) is None
        assert served.client.zscore(f"{served.namespace}:__heartbeats__", served.broker_id)
        monkeypatch.setattr(broker, "WAIT_S", 0.05)
        assert next(consumer) is None
    assert len(asked.trips) == 3


def test_messages_that_cannot_be_returned_are_a_lost_connection_to_which_dramatiq_has_an_answer(served):
    send(served)
    message = next(served.consume("waited-for"))
    without_redis = broker.new_broker("redis://127.0.0.1:1/0", timeout=0.5)
    with pytest.raises(ConnectionClosed):
        without_redis.consume("waited-for").requeue([message])


def test_a_consumer_without_messages_asks_redis_once_a_wait(served, monkeypatch):
    monkeypatch.setattr(broker, "WAIT_S", 0.05)
    consumer = served.consume("waited-for")
    with counted() as asked:
        assert next(consumer) is None
    assert len(asked.trips) == 1


def test_messages_keep_their_order(served):
    for text in ("a", "b", "c"):
        send(served, text)
    consumer = served.consume("waited-for", prefetch=3)
    assert [next(consumer).args[0] for _ in range(3)] == ["a", "b", "c"]


def test_a_consumer_that_takes_no_more_messages_still_tells_redis_that_it_is_alive(served, monkeypatch):
    send(served)
    send(served)
    consumer = served.consume("waited-for", prefetch=1)
    assert next(consumer).args == ("hello",)
    monkeypatch.setattr(broker, "_ASK_EVERY_S", 0)
    with counted() as asked:
        assert next(consumer) is None
    assert len(asked.trips) == 1


def test_no_consumer_waits_for_delayed_messages(served, monkeypatch):
    monkeypatch.setattr(broker, "WAIT_S", 0.05)
    worker = WaitingWorker(served, ["waited-for"], 1, fetch_pause_ms=50)
    worker.start()
    try:
        assert list(worker.consumers) == ["waited-for"]
    finally:
        worker.stop()


def test_a_worker_handles_its_message_and_returns_the_others_when_it_stops(served, monkeypatch):
    monkeypatch.setattr(broker, "WAIT_S", 0.2)
    begun, may_end, handled = threading.Event(), threading.Event(), []

    def handle(text: str) -> None:
        handled.append(text)
        begun.set()
        may_end.wait(60)

    broker.register("any", "waited-for", handle, served)
    worker = WaitingWorker(served, ["waited-for"], 1, fetch_pause_ms=50)
    worker.start()
    for text in ("first", "second"):
        send(served, text)
    assert begun.wait(60)
    until(lambda: worker.work_queue.qsize() == 1)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    until(lambda: not worker.workers[0].running)
    may_end.set()
    stopping.join(60)
    assert not stopping.is_alive()
    assert handled == ["first"]
    assert next(served.consume("waited-for")).args == ("second",)


def test_threads_that_wait_for_a_message_stop_at_once(served, monkeypatch):
    monkeypatch.setattr(broker, "WAIT_S", 0.05)
    worker = WaitingWorker(served, ["waited-for"], 4, fetch_pause_ms=50)
    worker.start()
    worker.stop(timeout=60_000)
    assert not any(thread.is_alive() for thread in worker.workers)
