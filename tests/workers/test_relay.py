"""What the relay sends again, and what it leaves alone."""

from datetime import datetime, timedelta

import pytest
from dramatiq import Message

from actors import broker, verbs
from actors.verbs import promise, record, transaction
from db import journal, postgres, redis, times
from tests import makers
from workers import relay

QUEUE = "relayed"


@record(QUEUE)
def nod() -> None:
    """Nothing."""


@pytest.fixture(autouse=True)
def empty_wire(database):
    broker.opened().client.flushdb()


@pytest.fixture
def redis_away(valkey_server, monkeypatch):
    # What is noted of its absence is forgotten with the test.
    monkeypatch.setattr(broker, "_asleep_until", 0.0)
    broker.open("redis://127.0.0.1:1/0", timeout=0.5)
    yield
    broker.open(valkey_server.url, timeout=5)


def overdue(**columns: object) -> journal.Task:
    """A promise whose time has come, of which the wire knows nothing."""
    task = nod.message()
    with transaction():
        promise(task)
    broker.opened().client.flushdb()
    return _overdue(task, **columns)


def overdue_unseen() -> journal.Task:
    """The same, where there is no wire."""
    task = nod.message()
    with transaction():
        promise(task)
    return _overdue(task)


def _overdue(task: journal.Task, **columns: object) -> journal.Task:
    columns.setdefault("due_at", postgres.rows("SELECT clock_timestamp() - interval '1 second' AS t")[0]["t"])
    journal.Row.update(**columns).where(journal.Row.id == task.id).execute()
    return task


def row(task: journal.Task) -> journal.Row:
    return journal.Row.get_by_id(task.id)


def messages() -> list[str]:
    """The ids of the messages that wait, as a worker of Dramatiq's sees them."""
    consumer, found = broker.opened().consume(QUEUE, prefetch=10, timeout=1), []
    while message := next(consumer):
        found.append(message.message_id)
        consumer.ack(message)
    return found


def test_what_is_pushed_is_what_dramatiq_reads():
    task = nod.message()
    broker.push([task])
    consumer = broker.opened().consume(QUEUE, prefetch=1, timeout=1)
    proxy = next(consumer)
    assert proxy is not None
    assert (proxy.message_id, proxy.actor_name, proxy.args) == (str(task.id), nod.name, (str(task.id),))
    consumer.ack(proxy)
    assert broker.opened().client.keys("dramatiq:relayed*") == []

    # And the other way round: what Dramatiq writes lies where ours does.
    broker.opened().enqueue(Message(QUEUE, nod.name, (), {}, {}))
    assert broker.opened().client.llen(f"dramatiq:{QUEUE}") == 1


def test_a_fresh_promise_is_left_to_the_fast_path():
    with transaction():
        promise(nod.message())
    assert relay.once() == 0


def test_an_overdue_promise_is_sent_and_counted():
    task = overdue()
    assert relay.once() == 1
    assert messages() == [str(task.id)]
    assert row(task).attempts == 1
    assert relay.once() == 0


def ago(seconds: float) -> datetime:
    return times.now() - timedelta(seconds=seconds)


def wait_in_queue(since: datetime) -> None:
    """A message that a worker has not fetched yet."""
    millis = int(since.timestamp() * 1000)
    broker.opened().enqueue(Message(QUEUE, nod.name, (), {}, {}, message_timestamp=millis))


def test_what_still_waits_in_its_queue_is_not_sent_again():
    task = overdue(sent_at=ago(60))
    wait_in_queue(since=ago(61))
    assert relay.once() == 0
    assert row(task).attempts == 0


def test_what_was_lost_is_sent_again_however_busy_its_queue():
    task = overdue(sent_at=ago(60))
    wait_in_queue(since=ago(50))
    assert relay.once() == 1
    assert row(task).attempts == 1


def test_what_failed_is_sent_again_however_long_its_queue():
    task = overdue(error="it broke", sent_at=ago(60))
    wait_in_queue(since=ago(61))
    assert relay.once() == 1
    assert row(task).attempts == 1


@pytest.mark.usefixtures("redis_away")
def test_a_redis_that_is_away_costs_no_attempt():
    task = overdue_unseen()
    with pytest.raises(redis.Unreachable):
        relay.once()
    assert row(task).attempts == 0


def test_a_redis_that_goes_away_before_the_push_costs_no_attempt(monkeypatch):
    task = overdue()

    def gone(_tasks: object) -> None:
        raise redis.Unreachable("gone")

    monkeypatch.setattr(broker, "push", gone)
    with pytest.raises(redis.Unreachable):
        relay.once()
    assert row(task).attempts == 0
    monkeypatch.undo()
    assert relay.once() == 1
    assert row(task).attempts == 1


def test_after_the_last_attempt_a_promise_is_dead_until_it_is_revived():
    task = overdue(attempts=journal.MAX_ATTEMPTS, error="it broke")
    assert relay.once() == 0
    assert row(task).dead_at is not None
    nod(str(task.id))
    assert row(task).dead_at is not None

    assert journal.revive([task.id]) == 1
    assert relay.once() == 1
    assert row(task).attempts == 1


def test_waits_grow_between_attempts():
    task = overdue(error="it broke")
    waits = []
    for attempts in (0, 4, 19):
        columns = {"attempts": attempts, "due_at": journal.Row.created_at}
        journal.Row.update(columns).where(journal.Row.id == task.id).execute()
        relay.once()
        waited = postgres.rows(
            "SELECT extract(epoch FROM due_at - clock_timestamp()) AS s FROM journal.tasks"
        )
        waits.append(float(waited[0]["s"]))
    assert journal.GRACE <= waits[0] < journal.GRACE + 1
    assert journal.GRACE + 3 < waits[1] < journal.GRACE + 9
    assert journal.GRACE + 149 < waits[2] <= journal.GRACE + 300


def test_a_verb_that_this_process_does_not_know_is_sent_all_the_same():
    task = overdue(verb="payments.from_the_next_release")
    assert "payments.from_the_next_release" not in verbs.registry
    assert relay.once() == 1
    assert messages() == [str(task.id)]


def promised_later(seconds: float) -> journal.Task:
    task = nod.message().later(seconds)
    with transaction():
        promise(task)
    return task


def test_what_is_due_later_is_not_sent_with_its_commit_nor_before_its_time():
    now, later = nod.message(), nod.message().later(60)
    with transaction():
        promise(later)
        promise(now)
    assert messages() == [str(now.id)]
    assert relay.once() == 0
    assert row(later).attempts == 0


def test_what_is_due_later_is_sent_when_its_time_has_come():
    task = promised_later(0.3)
    assert makers.until(relay.once, 5) == 1
    assert messages() == [str(task.id)]
    sent = row(task)
    assert 0.3 <= (sent.sent_at - sent.created_at).total_seconds() < 2
    # And from now on it is a promise as any other.
    assert relay.once() == 0
    _overdue(task)
    assert relay.once() == 1


@pytest.mark.parametrize("waits_since", [3600, 61, 1, 0])
def test_what_is_due_later_is_sent_in_its_time_however_busy_its_queue(waits_since):
    task = promised_later(60)
    for seconds in (waits_since, 0):
        wait_in_queue(since=ago(seconds))
    assert relay.once() == 0
    _overdue(task)
    assert relay.once() == 1
    assert str(task.id) in messages()


@pytest.mark.usefixtures("redis_away")
def test_what_is_due_later_outlives_a_redis_that_is_away(valkey_server):
    task = promised_later(60)
    _overdue(task)
    with pytest.raises(redis.Unreachable):
        relay.once()
    broker.open(valkey_server.url, timeout=5)
    assert relay.once() == 1
    assert messages() == [str(task.id)]


def test_what_was_dead_and_is_promised_anew_lives_again():
    def promised() -> journal.Task:
        task = nod.message().once("every day")
        with transaction():
            promise(task)
        return task

    task = promised()
    columns = {"attempts": journal.MAX_ATTEMPTS, "error": "it broke"}
    journal.Row.update(columns).where(journal.Row.id == task.id).execute()
    _overdue(task)
    assert relay.once() == 0
    assert row(task).dead_at is not None

    assert promised().id == task.id
    lives = row(task)
    assert (lives.dead_at, lives.attempts, lives.error) == (None, 0, None)
    nod(str(task.id))
    assert journal.Row.select().count() == 0
