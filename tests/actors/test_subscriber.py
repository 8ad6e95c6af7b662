"""Every handler gets every event of its types once, in order, whatever dies or is away meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from actors import broker, events, subscriber
from actors.events import EventType
from actors.jobs import enqueue, transaction, transactional_job
from actors.subscriber import TRIES, Subscriber
from db import event_log, job_journal, postgres, redis, subscriptions
from db.core import request_context
from db.event_log import Event
from db.subscriptions import Subscription
from tests.makers import until, work

NOWHERE = "redis://127.0.0.1:1/0"


@transactional_job("test_subscriber.nod", queue="subscribed")
def nod(number: int) -> None:
    """What a handler promises."""


class Reader:
    """A handler that remembers what it was handed, and does what it is told to at some of it."""

    __name__ = "reader"

    def __init__(self, name: str = "reader") -> None:
        self.__name__ = name
        self.got: list[Event] = []
        self.at: dict[int, Callable[[], None]] = {}

    def __call__(self, event: Event) -> None:
        self.at.get(event.data["number"], lambda: None)()
        self.got.append(event)

    @property
    def numbers(self) -> list[int]:
        return [event.data["number"] for event in self.got]


def breaks() -> None:
    raise ValueError("it broke\nin two")


def promises_and_breaks() -> None:
    enqueue(nod.job(2))
    breaks()


def dies() -> None:
    """kill -9: nothing is written down, and no handler of errors runs."""
    raise SystemExit


def say(*numbers: int, type: EventType = EventType.CONFIG_UPDATED) -> None:
    """Events with these numbers, in the log and on the channel."""
    for number in numbers:
        with transaction():
            events.emit(type, {"number": number})
    work()


def place(name: str = "test.reader") -> Subscription:
    return Subscription.get_by_id(name)


def due() -> None:
    """The wait after a failure is over."""
    Subscription.update(due_at=Subscription.moved_at).execute()


def all_of(it: Subscriber) -> None:
    """Lets it read until there is nothing more, waiting for nothing."""
    while it.once():
        pass


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def test(database, reader) -> Subscriber:
    """A subscriber that is up to date, its reader listening to one type."""
    made = Subscriber("test")
    made.subscribe(EventType.CONFIG_UPDATED, reader)
    made.once()
    return made


def test_each_handler_gets_the_events_of_its_types_once_and_in_order(test, reader):
    every, two = Reader("every"), Reader("two")
    test.subscribe(None, every)
    test.subscribe(EventType.PASSWORD_CHANGED, two)
    test.subscribe(EventType.USER_LOGGED_OUT, two)
    test.once()
    say(1)
    say(2, type=EventType.PASSWORD_CHANGED)
    say(3, 4)
    say(5, type=EventType.USER_LOGGED_OUT)
    all_of(test)
    all_of(test)
    assert reader.numbers == [1, 3, 4]
    assert two.numbers == [2, 5]
    assert every.numbers == [1, 2, 3, 4, 5]
    first = every.got[0].seq
    assert [event.seq for event in every.got] == list(range(first, first + 5))
    assert len({event.id for event in every.got}) == 5


def test_who_was_away_for_longer_than_a_batch_gets_it_all(test, reader):
    say(*range(600))
    all_of(test)
    assert reader.numbers == list(range(600))


def test_a_new_handler_hears_what_is_said_from_now_on(test):
    say(1)
    late = Reader("late")
    test.subscribe(EventType.CONFIG_UPDATED, late)
    all_of(test)
    say(2)
    all_of(test)
    assert late.numbers == [2]


def test_or_everything_from_a_place_on_if_it_wants_to(test):
    say(1, 2, 3)
    first = event_log.last_seq() - 2
    for after, heard in ((first, [2, 3]), (event_log.last_seq(), [])):
        it, reader = Subscriber(f"after {after}", after=after), Reader()
        it.subscribe(None, reader)
        all_of(it)
        assert reader.numbers == heard
    from_the_beginning = Subscriber("all", after=0)
    every: list[int] = []
    from_the_beginning.subscribe(None, lambda event: every.append(event.seq))
    all_of(from_the_beginning)
    assert every == [event.seq for event in event_log.after(0, 10_000)]


def test_a_subscriber_that_starts_again_goes_on_where_it_was(test, reader):
    say(1)
    all_of(test)
    say(2)
    again, other = Subscriber("test"), Reader()
    again.subscribe(EventType.CONFIG_UPDATED, other)
    all_of(again)
    assert (reader.numbers, other.numbers) == ([1], [2])


def test_two_handlers_of_one_name_are_refused(test):
    with pytest.raises(RuntimeError, match=r"two handlers are called test\.reader"):
        test.subscribe(EventType.CONFIG_UPDATED, Reader())


def test_a_handlers_error_stops_nobody_else_and_what_came_before_is_done(test, reader):
    other = Reader("other")
    test.subscribe(EventType.CONFIG_UPDATED, other)
    test.once()
    reader.at[3] = breaks
    say(1, 2, 3, 4)
    with capture_logs() as logs:
        all_of(test)
    assert other.numbers == [1, 2, 3, 4]
    assert place().seq == event_log.last_seq() - 2
    [log] = [it for it in logs if it["log_level"] == "error"]
    assert (log["subscription"], log["seq"], log["attempts"]) == ("test.reader", event_log.last_seq() - 1, 1)
    assert "it broke" in str(place().error)

    # Not before its wait is over, and then with nothing left out and nothing twice.
    assert not test.once()
    reader.at.clear()
    due()
    reader.got.clear()
    all_of(test)
    assert reader.numbers == [3, 4]
    assert (place().attempts, place().error) == (0, None)


def test_what_a_handler_wrote_before_it_failed_is_undone(test, reader):
    reader.at[1] = lambda: enqueue(nod.job(1))
    reader.at[2] = promises_and_breaks
    say(1, 2)
    all_of(test)
    assert [row.args for row in job_journal.JobRow.select()] == [{"number": 1}]
    reader.at[2] = lambda: enqueue(nod.job(2))
    due()
    all_of(test)
    assert work() == ["test_subscriber.nod"] * 2


def test_a_promise_is_made_for_the_request_that_caused_the_event(test, reader):
    reader.at[1] = lambda: enqueue(nod.job(1))
    with request_context.for_request("request-1"):
        say(1)
    all_of(test)
    assert [row.request_id for row in job_journal.JobRow.select()] == ["request-1"]


def test_waits_grow_and_the_event_is_given_up_where_an_operator_sees_it(test, reader):
    reader.at[2] = breaks
    say(1, 2, 3)
    waits = []
    for _ in range(TRIES):
        due()
        all_of(test)
        [row] = postgres.rows(
            "SELECT extract(epoch FROM due_at - clock_timestamp())::float AS s, attempts FROM admin.subscriptions"
            " WHERE name = 'test.reader'"
        )
        waits.append(row["s"])
        assert row["attempts"] == len(waits)
        assert reader.numbers[-1] == 1
    assert 0 < waits[0] < 0.5
    assert 31 < waits[-1] <= 64
    assert subscriptions.missed() == []

    due()
    with capture_logs() as logs:
        all_of(test)
    assert reader.numbers[-1] == 3
    [missed] = subscriptions.missed()
    [event] = [it for it in event_log.after(0, 10_000) if it.seq == missed.seq]
    assert (missed.name, event.data) == ("test.reader", {"number": 2})
    assert "it broke" in missed.error
    [said] = [it for it in logs if it["event"] == "an event was given up"]
    assert (said["seq"], said["attempts"]) == (missed.seq, TRIES)


def test_a_statement_that_takes_too_long_is_the_handlers_own_fault(test, reader):
    reader.at[1] = too_long
    say(1)
    all_of(test)
    assert "statement timeout" in str(place().error)


def too_long() -> None:
    postgres.rows("SET LOCAL statement_timeout = '50ms'")
    postgres.rows("SELECT pg_sleep(1)")


def test_what_was_given_up_can_be_handed_over_again(test, reader):
    reader.at[1] = breaks
    say(1, 2)
    for _ in range(TRIES + 1):
        due()
        all_of(test)
    assert test.again() == 0
    assert len(subscriptions.missed(["test.reader"])) == 1
    reader.at.clear()
    assert test.again() == 1
    assert reader.numbers == [2, 1]
    assert subscriptions.missed() == []
    assert test.again() == 0


def test_a_process_killed_in_mid_handler_has_done_nothing_and_it_is_done_once(test, reader):
    reader.at[1] = reader.at[2] = lambda: enqueue(nod.job(0))
    reader.at[3] = dies
    say(1, 2, 3)
    with pytest.raises(SystemExit):
        test.once()
    assert job_journal.JobRow.select().count() == 0
    assert place().attempts == 1
    reader.at[3] = lambda: None
    due()
    reader.got.clear()
    all_of(test)
    assert reader.numbers == [1, 2, 3]
    assert work() == ["test_subscriber.nod"] * 2


def test_an_event_that_kills_its_process_is_found_and_given_up(test, reader):
    reader.at[300] = dies
    say(*range(310))
    deaths = 0
    while place().seq != event_log.last_seq():
        due()
        try:
            all_of(test)
        except SystemExit:
            deaths += 1
        assert deaths < 60
    [missed] = subscriptions.missed()
    assert missed.error == "its process died over it"
    assert missed.seq == event_log.last_seq() - 9
    assert sorted(set(reader.numbers)) == [it for it in range(310) if it != 300]


def test_events_that_are_for_nobody_cost_no_write_until_there_are_many(test, monkeypatch):
    monkeypatch.setattr(subscriptions, "_PASSED_BY", 10)
    before = place()
    say(*range(9), type=EventType.PASSWORD_CHANGED)
    assert not test.once()
    assert place().moved_at == before.moved_at
    say(9, type=EventType.PASSWORD_CHANGED)
    assert test.once()
    assert place().seq == event_log.last_seq()


def test_a_log_longer_than_one_reading_is_read_on(test, reader, monkeypatch):
    monkeypatch.setattr(subscriptions, "_STRIDE", 7)
    say(*range(20), type=EventType.PASSWORD_CHANGED)
    say(20)
    all_of(test)
    assert reader.numbers == [20]


def test_what_is_not_published_yet_is_handed_over_all_the_same(test, reader):
    say(1)
    Event.update(published_at=None).execute()
    all_of(test)
    assert reader.numbers == [1]


# What only real commits and two connections can show.


@pytest.fixture
def committed(stores) -> Iterator[None]:
    yield
    with postgres.connection():
        for table in ("journal.jobs", "admin.events", "admin.missed_events"):
            postgres.rows(f"DELETE FROM {table}")
        postgres.rows("DELETE FROM admin.subscriptions WHERE name NOT LIKE 'subscribers.%%'")
        postgres.rows("UPDATE admin.subscriptions SET seq = 0")


@pytest.fixture
def live(committed, reader) -> Subscriber:
    """A subscriber on committed data."""
    made = Subscriber("test")
    made.subscribe(EventType.CONFIG_UPDATED, reader)
    made.once()
    return made


def say_for_all(*numbers: int) -> None:
    with postgres.connection():
        say(*numbers)


def now() -> Subscription:
    with postgres.connection():
        return place()


@contextmanager
def running(it: Subscriber, url: str) -> Iterator[None]:
    """The subscriber runs, in a thread of its own."""
    told, redis_client = threading.Event(), redis.connect(url)
    thread = threading.Thread(target=it.run, args=(told, redis_client))
    thread.start()
    try:
        yield
    finally:
        told.set()
        thread.join(10)
        assert not thread.is_alive()
        redis_client.close()


def lines(url: str) -> int:
    """How many listen on the channel."""
    with redis.connect(url) as client:
        return dict(client.pubsub_numsub(events.CHANNEL))[events.CHANNEL.encode()]


def test_two_processes_never_hand_over_one_event_at_once(live, reader):
    inside, on = threading.Event(), threading.Event()

    def waits() -> None:
        inside.set()
        on.wait(20)

    reader.at[1] = waits
    say_for_all(1, 2)
    other, theirs = Subscriber("test"), Reader()
    other.subscribe(EventType.CONFIG_UPDATED, theirs)
    thread = threading.Thread(target=all_of, args=(live,))
    thread.start()
    assert inside.wait(20)
    # Longer than the first wait, so that only the lock keeps the other off.
    until(lambda: now().due_at <= postgres_now(), 5)
    assert not other.once()
    on.set()
    thread.join(20)
    all_of(other)
    assert (reader.numbers, theirs.numbers) == ([1, 2], [])


def postgres_now():
    with postgres.connection():
        return postgres.rows("SELECT clock_timestamp() AS t")[0]["t"]


def test_a_process_that_was_stopped_before_its_turn_finds_it_taken(live, reader, monkeypatch):
    """SIGSTOP between the claim and the work, while another does it all."""
    other, theirs = Subscriber("test"), Reader()
    other.subscribe(EventType.CONFIG_UPDATED, theirs)
    say_for_all(1)
    hold, held = subscriptions.hold, []

    def stopped(turn):
        monkeypatch.setattr(subscriptions, "hold", hold)
        # Where the other's turn is, in a transaction of its own.
        thread = threading.Thread(target=lambda: until(lambda: other.once() or None, 10))
        thread.start()
        thread.join(10)
        held.append(hold(turn))
        return held[-1]

    monkeypatch.setattr(subscriptions, "hold", stopped)
    all_of(live)
    assert held == [False]
    assert (reader.numbers, theirs.numbers) == ([], [1])


def test_many_readers_at_once_hand_over_each_event_once(committed):
    got: list[int] = []

    def reader(event: Event) -> None:
        got.append(event.data["number"])

    def reading() -> None:
        it = Subscriber("test", after=0)
        it.subscribe(EventType.CONFIG_UPDATED, reader)
        deadline = time.monotonic() + 20
        while len(got) < 400 and time.monotonic() < deadline:
            it.once()

    threads = [threading.Thread(target=reading) for _ in range(4)]
    for thread in threads:
        thread.start()
    for first in range(0, 400, 20):
        say_for_all(*range(first, first + 20))
    for thread in threads:
        thread.join(30)
    assert got == list(range(400))


def test_a_lock_that_does_not_come_free_is_no_try(live, reader):
    def waits() -> None:
        postgres.rows("SET LOCAL lock_timeout = '50ms'")
        postgres.rows("LOCK TABLE admin.system_config")

    other = Reader("other")
    live.subscribe(EventType.CONFIG_UPDATED, other)
    live.once()
    reader.at[1] = waits
    say_for_all(1)
    locked, end = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connection(), postgres.database.atomic():
            postgres.rows("LOCK TABLE admin.system_config")
            locked.set()
            end.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(20)
    all_of(live)
    assert (other.numbers, reader.numbers) == ([1], [])
    assert (now().attempts, now().error) == (0, None)
    end.set()
    thread.join(20)
    until(lambda: live.once() or None, 5)
    assert reader.numbers == [1]


def test_a_hint_wakes_it_at_once_and_twice_is_once(live, reader, valkey_server, monkeypatch):
    monkeypatch.setattr(subscriber, "_LOOK", 20.0)
    with running(live, valkey_server.url):
        until(lambda: lines(valkey_server.url), 5)
        say_for_all(1, 2)
        until(lambda: len(reader.got) == 2, 5)
        with postgres.connection():
            said = event_log.after(0, 10)
        for event in said:
            broker.publish(events.CHANNEL, [b"not even JSON", str(events.to_message(event)).encode()] * 5)
        say_for_all(3)
        until(lambda: len(reader.got) == 3, 5)
        # It ends when it is told, not after the next look.
        broker.publish(events.CHANNEL, [b"wake"])
    assert reader.numbers == [1, 2, 3]


def test_without_redis_it_looks_once_a_second(live, reader):
    with running(live, NOWHERE):
        say_for_all(1)
        until(lambda: reader.numbers == [1], 5)
        say_for_all(2)
        until(lambda: reader.numbers == [1, 2], 5)


def test_a_flushed_or_restarted_redis_is_listened_to_again(live, reader, valkey_server, monkeypatch):
    with running(live, valkey_server.url):
        until(lambda: lines(valkey_server.url), 5)
        broker.current().client.flushall()
        say_for_all(1)
        until(lambda: reader.numbers == [1], 5)
        with redis.connect(valkey_server.url) as client:
            client.client_kill_filter(_type="pubsub")
        until(lambda: lines(valkey_server.url), 5)
        monkeypatch.setattr(subscriber, "_LOOK", 20.0)
        say_for_all(2)
        until(lambda: reader.numbers == [1, 2], 5)
        broker.publish(events.CHANNEL, [b"wake"])


def test_a_line_that_is_silent_for_long_is_laid_anew(live, valkey_server, monkeypatch):
    monkeypatch.setattr(subscriber, "_LOOK", 0.05)
    monkeypatch.setattr(subscriber, "_SILENT", 2)

    def line() -> list[str]:
        with redis.connect(valkey_server.url) as client:
            return [it["id"] for it in client.client_list(_type="pubsub")]

    with running(live, valkey_server.url):
        first = until(line, 5)
        until(lambda: (found := line()) and not set(found) & set(first), 5)


def test_without_a_database_it_waits_and_goes_on(live, reader, valkey_server, monkeypatch):
    once, away = live.once, threading.Event()
    asked: list[bool] = []

    def perhaps() -> bool:
        asked.append(away.is_set())
        if away.is_set():
            raise postgres.DatabaseUnavailable("gone")
        return once()

    monkeypatch.setattr(live, "once", perhaps)
    with running(live, valkey_server.url):
        until(lambda: lines(valkey_server.url), 5)
        away.set()
        say_for_all(1)
        until(lambda: any(asked), 5)
        assert reader.numbers == []
        away.clear()
        until(lambda: reader.numbers == [1], 5)
