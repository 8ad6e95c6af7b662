"""Every subscriber handles every event of its types once, in order, across crashes and outages."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from actors import broker, events, job_operations, subscriber
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import enqueue, transaction, transactional_job
from actors.subscriber import MAX_ATTEMPTS, Subscriber
from db import event_log, postgres, redis, subscriptions
from db.core import request_context
from db.core.request_context import RequestContext
from db.event_log import Event
from tests.counting import counted
from tests.makers import audit_entries, until, work
from tests.tables import EventPublication, JobRow, MissedEvent, Subscription, last_seq
from workers import process

UNREACHABLE = "redis://127.0.0.1:1/0"


@transactional_job("test_subscriber.nod", queue="subscribed")
def nod(number: int) -> None:
    """A job that a handler enqueues."""


class Recorder:
    """A handler that records its events, and calls the function in `at` for the event with that number."""

    def __init__(self) -> None:
        self.handled: list[Event] = []
        self.at: dict[int, Callable[[], object]] = {}

    def __call__(self, event: Event) -> None:
        self.at.get(event.data["number"], lambda: None)()
        self.handled.append(event)

    @property
    def numbers(self) -> list[int]:
        return [event.data["number"] for event in self.handled]


def fail() -> None:
    raise ValueError("it broke\nin two")


def fail_otherwise() -> None:
    raise ValueError("it broke again")


def enqueue_then_fail() -> None:
    enqueue(nod.job(2))
    fail()


def die() -> None:
    """As kill -9: nothing is recorded, and no error handler runs."""
    raise SystemExit


def emit(*numbers: int, type: EventType = EventType.CONFIG_UPDATED) -> None:
    """Appends events with these numbers to the log, and publishes them."""
    for number in numbers:
        with transaction():
            events.emit(type, {"number": number})
    work()


def missed() -> list[MissedEvent]:
    """The events that the subscriber of these tests gave up."""
    return list(MissedEvent.select().where(MissedEvent.name == "test.recorder").order_by(MissedEvent.seq))


def cursor(name: str = "test.recorder") -> Subscription:
    return Subscription.get_by_id(name)


def make_due() -> None:
    """Ends the pause after a failure."""
    Subscription.update(due_at=Subscription.moved_at).execute()


def subscriber_of(
    handler: subscriber.Handler,
    *types: EventType,
    name: str = "test.recorder",
) -> Subscriber:
    return Subscriber(name, handler, types or list(EventType))


def drain(*subscribers: Subscriber) -> None:
    """Lets the subscribers handle events until there are no more that are due."""
    while subscriber.once(subscribers):
        pass


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def test(database, recorder) -> Subscriber:
    """A subscriber to one type that has handled all events so far."""
    made = subscriber_of(recorder, EventType.CONFIG_UPDATED)
    subscriber.once([made])
    return made


def test_each_subscriber_gets_the_events_of_its_types_once_in_order(test, recorder):
    every, two = Recorder(), Recorder()
    subscribers = [
        test,
        subscriber_of(every, name="test.every"),
        subscriber_of(two, EventType.PASSWORD_CHANGED, EventType.USER_LOGGED_OUT, name="test.two"),
    ]
    subscriber.once(subscribers)
    emit(1)
    emit(2, type=EventType.PASSWORD_CHANGED)
    emit(3, 4)
    emit(5, type=EventType.USER_LOGGED_OUT)
    drain(*subscribers)
    drain(*subscribers)
    assert recorder.numbers == [1, 3, 4]
    assert two.numbers == [2, 5]
    assert every.numbers == [1, 2, 3, 4, 5]
    first = every.handled[0].seq
    assert [event.seq for event in every.handled] == list(range(first, first + 5))
    assert len({event.id for event in every.handled}) == 5


def test_a_subscriber_that_was_down_for_more_than_a_batch_gets_every_event(test, recorder, monkeypatch):
    monkeypatch.setattr(subscriber, "_BATCH", 8)
    emit(*range(20))
    drain(test)
    assert recorder.numbers == list(range(20))


def test_a_new_subscriber_begins_at_the_end_of_the_log(test):
    emit(1)
    late = Recorder()
    new = subscriber_of(late, EventType.CONFIG_UPDATED, name="test.late")
    drain(new)
    emit(2)
    drain(new)
    assert late.numbers == [2]


def test_a_restarted_subscriber_goes_on_at_its_cursor(test, recorder):
    emit(1)
    drain(test)
    emit(2)
    after_restart = Recorder()
    drain(subscriber_of(after_restart, EventType.CONFIG_UPDATED))
    assert (recorder.numbers, after_restart.numbers) == ([1], [2])


def test_a_failing_handler_stops_no_other_and_keeps_the_events_before_the_failure(test, recorder):
    other = Recorder()
    subscribers = [test, subscriber_of(other, EventType.CONFIG_UPDATED, name="test.other")]
    subscriber.once(subscribers)
    recorder.at[3] = fail
    emit(1, 2, 3, 4)
    with capture_logs() as logs:
        drain(*subscribers)
    assert other.numbers == [1, 2, 3, 4]
    assert cursor().seq == last_seq() - 2
    [line] = [line for line in logs if line["log_level"] == "error"]
    failed = last_seq() - 1
    assert (line["subscriber"], line["seq"], line["attempts"]) == ("test.recorder", failed, 1)
    assert "it broke" in str(cursor().error)

    # Nothing before the pause is over; after it, no event is left out and none handled twice.
    assert not subscriber.once([test])
    recorder.at.clear()
    make_due()
    recorder.handled.clear()
    drain(test)
    assert recorder.numbers == [3, 4]
    assert (cursor().attempts, cursor().error) == (0, None)


def test_a_failing_handlers_changes_are_rolled_back(test, recorder):
    recorder.at[1] = lambda: enqueue(nod.job(1))
    recorder.at[2] = enqueue_then_fail
    emit(1, 2)
    drain(test)
    assert [row.args for row in JobRow.select()] == [{"number": 1}]
    recorder.at[2] = lambda: enqueue(nod.job(2))
    make_due()
    drain(test)
    assert work() == ["test_subscriber.nod"] * 2


def test_a_job_of_a_handler_carries_the_request_id_of_the_event(test, recorder):
    recorder.at[1] = lambda: enqueue(nod.job(1))
    with request_context.acting_as(RequestContext("request-1")):
        emit(1)
    drain(test)
    assert [row.request_id for row in JobRow.select()] == ["request-1"]


def test_pauses_grow_until_the_event_is_given_up_and_recorded_as_missed(test, recorder):
    recorder.at[2] = fail
    emit(1, 2, 3)
    pauses = []
    for _ in range(MAX_ATTEMPTS):
        make_due()
        drain(test)
        [row] = postgres.rows(
            "SELECT extract(epoch FROM due_at - clock_timestamp())::float AS s, attempts FROM admin.subscriptions"
            " WHERE name = 'test.recorder'"
        )
        pauses.append(row["s"])
        assert row["attempts"] == len(pauses)
        assert recorder.numbers[-1] == 1
    assert 0 < pauses[0] < 0.5
    assert 31 < pauses[-1] <= 64
    assert missed() == []

    make_due()
    with capture_logs() as logs:
        drain(test)
    assert recorder.numbers[-1] == 3
    [given_up] = missed()
    [event] = [event for event in event_log.after(0, 10_000) if event.seq == given_up.seq]
    assert event.data == {"number": 2}
    assert "it broke" in given_up.error
    [line] = [line for line in logs if line["event"] == "event given up"]
    assert (line["seq"], line["attempts"]) == (given_up.seq, MAX_ATTEMPTS)


def test_a_statement_timeout_counts_as_a_failure_of_the_handler(test, recorder):
    recorder.at[1] = time_out
    emit(1)
    drain(test)
    assert "statement timeout" in str(cursor().error)


def time_out() -> None:
    postgres.rows("SET LOCAL statement_timeout = '50ms'")
    postgres.rows("SELECT pg_sleep(1)")


def test_a_missed_event_can_be_retried(test, recorder):
    recorder.at[1] = fail
    emit(1, 2)
    for _ in range(MAX_ATTEMPTS + 1):
        make_due()
        drain(test)
    [given_up] = missed()
    recorder.at[1] = fail_otherwise
    assert not job_operations.handle_missed(test, given_up.seq)
    [given_up_again] = missed()
    assert "it broke again" in given_up_again.error
    recorder.at.clear()
    assert job_operations.handle_missed(test, given_up.seq)
    assert recorder.numbers == [2, 1]
    work()
    [entry] = audit_entries(recorder.handled[-1].id)
    assert (entry.action, entry.details["seq"]) == (AuditAction.EVENTS_REPLAYED, given_up.seq)
    assert missed() == []
    assert not job_operations.handle_missed(test, given_up.seq)


def test_a_process_killed_inside_a_handler_has_changed_nothing(test, recorder):
    recorder.at[1] = recorder.at[2] = lambda: enqueue(nod.job(0))
    recorder.at[3] = die
    emit(1, 2, 3)
    with pytest.raises(SystemExit):
        subscriber.once([test])
    assert JobRow.select().count() == 0
    assert cursor().attempts == 1
    recorder.at[3] = lambda: None
    make_due()
    recorder.handled.clear()
    drain(test)
    assert recorder.numbers == [1, 2, 3]
    assert work() == ["test_subscriber.nod"] * 2


def test_an_event_that_kills_the_process_is_found_and_given_up(test, recorder, monkeypatch):
    # As in production, several batches before the event and a rest of the batch after it.
    monkeypatch.setattr(subscriber, "_BATCH", 32)
    recorder.at[40] = die
    emit(*range(45))
    deaths = 0
    while cursor().seq != last_seq():
        make_due()
        try:
            drain(test)
        except SystemExit:
            deaths += 1
        assert deaths < 60
    [given_up] = missed()
    assert given_up.error == "its process died while it was handled"
    assert given_up.seq == last_seq() - 4
    assert sorted(set(recorder.numbers)) == [number for number in range(45) if number != 40]


def test_events_of_other_types_cost_no_write_until_there_are_many(test, monkeypatch):
    monkeypatch.setattr(subscriptions, "_SKIP_AFTER_EVENTS", 10)
    before = cursor()
    emit(*range(9), type=EventType.PASSWORD_CHANGED)
    assert not subscriber.once([test])
    assert cursor().moved_at == before.moved_at
    emit(9, type=EventType.PASSWORD_CHANGED)
    assert subscriber.once([test])
    assert cursor().seq == last_seq()


def test_a_log_longer_than_one_stride_is_read_to_its_end(test, recorder, monkeypatch):
    monkeypatch.setattr(subscriptions, "_MAX_STRIDE", 7)
    emit(*range(20), type=EventType.PASSWORD_CHANGED)
    emit(20)
    drain(test)
    assert recorder.numbers == [20]


def test_an_event_that_is_not_published_yet_is_handled(test, recorder):
    emit(1)
    EventPublication.update(seq=0).execute()
    drain(test)
    assert recorder.numbers == [1]


# The tests below need committed data and two connections.


@pytest.fixture
def committed(stores) -> Iterator[None]:
    yield
    with postgres.connection():
        for table in ("journal.jobs", "admin.events", "admin.missed_events"):
            postgres.rows(f"DELETE FROM {table}")
        postgres.rows("DELETE FROM admin.subscriptions WHERE name NOT LIKE 'subscribers.%%'")
        postgres.rows("UPDATE admin.subscriptions SET seq = 0")
        postgres.rows("UPDATE admin.event_publication SET seq = 0")


@pytest.fixture
def live(committed, recorder) -> Subscriber:
    """A subscriber on committed data."""
    made = subscriber_of(recorder, EventType.CONFIG_UPDATED)
    subscriber.once([made])
    return made


def emit_committed(*numbers: int) -> None:
    with postgres.connection():
        emit(*numbers)


def committed_cursor() -> Subscription:
    with postgres.connection():
        return cursor()


@contextmanager
def running(live: Subscriber, url: str) -> Iterator[None]:
    """Runs the subscriber in a thread."""
    stopped, client = threading.Event(), redis.connect(url)
    notifications = subscriber.Notifications(client)
    thread = threading.Thread(
        target=process.repeat,
        args=("test", lambda: subscriber.once([live]), client, stopped),
        kwargs={"rest": notifications.wait},
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(60)
        assert not thread.is_alive()
        notifications.close()
        client.close()


def listeners(url: str) -> int:
    """Returns how many connections are subscribed to the channel."""
    with redis.connect(url) as client:
        return dict(client.pubsub_numsub(events.TYPES_CHANNEL))[events.TYPES_CHANNEL.encode()]


def test_two_processes_never_handle_one_event_at_once(live, recorder):
    inside, on = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        on.wait(20)

    recorder.at[1] = wait
    emit_committed(1, 2)
    theirs = Recorder()
    other = subscriber_of(theirs, EventType.CONFIG_UPDATED)
    thread = threading.Thread(target=drain, args=(live,))
    thread.start()
    assert inside.wait(20)
    # Longer than the first pause, so that only the lock keeps the other process off.
    until(lambda: committed_cursor().due_at <= postgres_now())
    assert not subscriber.once([other])
    on.set()
    thread.join(20)
    drain(other)
    assert (recorder.numbers, theirs.numbers) == ([1, 2], [])


def postgres_now():
    with postgres.connection():
        return postgres.rows("SELECT clock_timestamp() AS t")[0]["t"]


def test_a_process_frozen_after_its_claim_finds_the_claim_taken(live, recorder, monkeypatch):
    """SIGSTOP between the claim and the work, while another process handles all events."""
    theirs = Recorder()
    other = subscriber_of(theirs, EventType.CONFIG_UPDATED)
    emit_committed(1)
    lock_next, locked = subscriptions.lock_next, []

    def frozen(*args):
        monkeypatch.setattr(subscriptions, "lock_next", lock_next)
        thread = threading.Thread(target=lambda: until(lambda: subscriber.once([other]) or None))
        thread.start()
        thread.join(60)
        locked.append(lock_next(*args))
        return locked[-1]

    monkeypatch.setattr(subscriptions, "lock_next", frozen)
    drain(live)
    assert locked == [None]
    assert (recorder.numbers, theirs.numbers) == ([], [1])


def test_four_processes_handle_each_event_once(committed):
    handled: list[int] = []
    reader = subscriber_of(lambda event: handled.append(event.data["number"]), EventType.CONFIG_UPDATED)
    subscriber.once([reader])

    def read() -> None:
        deadline = time.monotonic() + 60
        while len(handled) < 200 and time.monotonic() < deadline:
            subscriber.once([reader])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for first in range(0, 200, 20):
        emit_committed(*range(first, first + 20))
    for thread in threads:
        thread.join(90)
    assert handled == list(range(200))


def test_a_handler_that_waits_in_vain_for_a_lock_has_used_no_attempt(live, recorder):
    def wait() -> None:
        postgres.rows("SET LOCAL lock_timeout = '50ms'")
        postgres.rows("LOCK TABLE admin.system_config")

    theirs = Recorder()
    subscribers = [live, subscriber_of(theirs, EventType.CONFIG_UPDATED, name="test.other")]
    subscriber.once(subscribers)
    recorder.at[1] = wait
    emit_committed(1)
    locked, end = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connection(), postgres.database.atomic():
            postgres.rows("LOCK TABLE admin.system_config")
            locked.set()
            end.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(20)
    drain(*subscribers)
    assert (theirs.numbers, recorder.numbers) == ([1], [])
    assert (committed_cursor().attempts, committed_cursor().error) == (0, None)
    end.set()
    thread.join(20)
    until(lambda: subscriber.once([live]) or None)
    assert recorder.numbers == [1]


def test_a_notification_ends_the_wait_and_one_that_comes_twice_changes_nothing(
    live, recorder, valkey_server, monkeypatch
):
    monkeypatch.setattr(subscriber, "_POLL_S", 600.0)
    with running(live, valkey_server.url):
        until(lambda: listeners(valkey_server.url))
        emit_committed(1, 2)
        until(lambda: len(recorder.handled) == 2)
        with postgres.connection():
            logged = event_log.after(0, 10)
        for event in logged:
            broker.publish(events.TYPES_CHANNEL, [b"no type", event.type.encode(), b"\xff"] * 5)
        emit_committed(3)
        until(lambda: len(recorder.handled) == 3)
        # So that `run` sees at once that it is stopped.
        broker.publish(events.TYPES_CHANNEL, [b"wake"])
    assert recorder.numbers == [1, 2, 3]


def test_events_of_other_types_do_not_end_the_wait(valkey_server, monkeypatch):
    monkeypatch.setattr(subscriber, "_POLL_S", 0.2)
    with redis.connect(valkey_server.url) as client:
        notifications = subscriber.Notifications(client, {EventType.CONFIG_UPDATED})
        notifications.wait(threading.Event())
        broker.publish(events.TYPES_CHANNEL, [b"auth:password:changed payments:payment:updated"])
        assert not notifications._is_notified()
        broker.publish(events.TYPES_CHANNEL, [b"auth:password:changed admin:config:updated"])
        # As long as a loaded machine needs: it ends with the message.
        monkeypatch.setattr(subscriber, "_POLL_S", 60.0)
        assert notifications._is_notified()
        notifications.close()


def test_while_nothing_happens_the_log_is_read_with_one_statement(test):
    with counted() as asked:
        assert not subscriber.once([test])
    assert len(asked.statements) == 1


def test_without_redis_the_log_is_polled(live, recorder):
    with running(live, UNREACHABLE):
        emit_committed(1)
        until(lambda: recorder.numbers == [1])
        emit_committed(2)
        until(lambda: recorder.numbers == [1, 2])


def test_a_flushed_or_restarted_redis_is_subscribed_anew(live, recorder, valkey_server, monkeypatch):
    closed, close = threading.Event(), subscriber.Notifications.close

    def observed_close(notifications: subscriber.Notifications) -> None:
        close(notifications)
        closed.set()

    with running(live, valkey_server.url):
        until(lambda: listeners(valkey_server.url))
        broker.current().client.flushall()
        emit_committed(1)
        until(lambda: recorder.numbers == [1])
        monkeypatch.setattr(subscriber.Notifications, "close", observed_close)
        with redis.connect(valkey_server.url) as client:
            client.client_kill_filter(_type="pubsub")
        # redis-py subscribes once more before it raises its error, for which the connection is then closed.
        until(closed.is_set)
        until(lambda: listeners(valkey_server.url))
        monkeypatch.setattr(subscriber, "_POLL_S", 600.0)
        emit_committed(2)
        until(lambda: recorder.numbers == [1, 2])
        broker.publish(events.TYPES_CHANNEL, [b"wake"])


def test_a_silent_connection_is_replaced(live, valkey_server, monkeypatch):
    monkeypatch.setattr(subscriber, "_POLL_S", 0.05)
    monkeypatch.setattr(subscriber, "_SILENT_POLLS", 2)

    def connections() -> set[str]:
        with redis.connect(valkey_server.url) as client:
            return {client["id"] for client in client.client_list(_type="pubsub")}

    with running(live, valkey_server.url):
        first = until(connections)
        until(lambda: (found := connections()) and not found & first)


def test_an_unavailable_database_is_waited_for(live, recorder, valkey_server, monkeypatch):
    once, unavailable = subscriber.once, threading.Event()
    tried: list[bool] = []

    def once_if_available(subscribers) -> bool:
        # The events are emitted while only `live` has no database.
        if subscribers == [live]:
            tried.append(unavailable.is_set())
        if tried and tried[-1] and subscribers == [live]:
            raise postgres.DatabaseUnavailable("gone")
        return once(subscribers)

    monkeypatch.setattr(subscriber, "once", once_if_available)
    with running(live, valkey_server.url):
        until(lambda: listeners(valkey_server.url))
        unavailable.set()
        emit_committed(1)
        until(lambda: any(tried))
        assert recorder.numbers == []
        unavailable.clear()
        until(lambda: recorder.numbers == [1])
