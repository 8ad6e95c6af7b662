"""What the relay sends again, and what it leaves alone."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dramatiq import Message

from actors import broker, jobs
from actors.jobs import BatchEntry, batch_job, enqueue, transaction, transactional_job
from db import job_journal, postgres, redelivery, redis
from db.core import times
from tests import makers
from workers import relay

QUEUE = "relayed"


@transactional_job("test_relay.nod", queue=QUEUE)
def nod() -> None:
    """Nothing."""


class Line(BatchEntry):
    pass


sizes: list[int] = []


@batch_job("test_relay.append", Line, queue=QUEUE)
def append(lines: Sequence[Line]) -> None:
    sizes.append(len(lines))


@pytest.fixture(autouse=True)
def empty_wire(database):
    broker.current().client.flushdb()


@pytest.fixture
def redis_away(valkey_server):
    broker.configure("redis://127.0.0.1:1/0", timeout=0.5)
    yield
    broker.configure(valkey_server.url, timeout=5)


def overdue(**columns: object) -> job_journal.Job:
    """A promise whose time has come, of which the wire knows nothing."""
    task = nod.job()
    with transaction():
        enqueue(task)
    broker.current().client.flushdb()
    return _overdue(task, **columns)


def overdue_unseen() -> job_journal.Job:
    """The same, where there is no wire."""
    task = nod.job()
    with transaction():
        enqueue(task)
    return _overdue(task)


def _overdue(task: job_journal.Job, **columns: object) -> job_journal.Job:
    columns.setdefault("due_at", postgres.rows("SELECT clock_timestamp() - interval '1 second' AS t")[0]["t"])
    job_journal.JobRow.update(**columns).where(job_journal.JobRow.id == task.id).execute()
    return task


def row(task: job_journal.Job) -> job_journal.JobRow:
    return job_journal.JobRow.get_by_id(task.id)


def messages() -> list[str]:
    """The ids of the messages that wait, as a worker of Dramatiq's sees them."""
    consumer, found = broker.current().consume(QUEUE, prefetch=10, timeout=1), []
    while message := next(consumer):
        found.append(message.message_id)
        consumer.ack(message)
    return found


def test_what_is_pushed_is_what_dramatiq_reads():
    task = nod.job()
    broker.push([task])
    consumer = broker.current().consume(QUEUE, prefetch=1, timeout=1)
    proxy = next(consumer)
    assert proxy is not None
    assert (proxy.message_id, proxy.actor_name, proxy.args) == (str(task.id), nod.name, (str(task.id),))
    consumer.ack(proxy)
    assert broker.current().client.keys("dramatiq:relayed*") == []

    # And the other way round: what Dramatiq writes lies where ours does.
    broker.current().enqueue(Message(QUEUE, nod.name, (), {}, {}))
    assert broker.current().client.llen(f"dramatiq:{QUEUE}") == 1


def test_a_fresh_promise_is_left_to_the_fast_path():
    with transaction():
        enqueue(nod.job())
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
    broker.current().enqueue(Message(QUEUE, nod.name, (), {}, {}, message_timestamp=millis))


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


def refused(*_: object) -> None:
    raise redis.Unreachable("OOM command not allowed when used memory > 'maxmemory'")


def test_a_redis_that_goes_away_before_the_push_costs_no_attempt(monkeypatch):
    task = overdue()

    monkeypatch.setattr(broker, "push", refused)
    with pytest.raises(redis.Unreachable):
        relay.once()
    assert row(task).attempts == 0
    monkeypatch.undo()
    assert relay.once() == 1
    assert row(task).attempts == 1


def test_after_the_last_attempt_a_promise_is_dead_until_it_is_revived():
    task = overdue(attempts=redelivery.MAX_ATTEMPTS, error="it broke")
    assert relay.once() == 0
    assert row(task).dead_at is not None
    nod(str(task.id))
    assert row(task).dead_at is not None

    assert job_journal.retry_dead([task.id]) == 1
    assert relay.once() == 1
    assert row(task).attempts == 1


def test_waits_grow_between_attempts():
    task = overdue(error="it broke")
    waits = []
    for attempts in (0, 4, 19):
        columns = {"attempts": attempts, "due_at": job_journal.JobRow.created_at}
        job_journal.JobRow.update(columns).where(job_journal.JobRow.id == task.id).execute()
        relay.once()
        waited = postgres.rows("SELECT extract(epoch FROM due_at - clock_timestamp()) AS s FROM journal.jobs")
        waits.append(float(waited[0]["s"]))
    assert job_journal.DISPATCH_GRACE_S <= waits[0] < job_journal.DISPATCH_GRACE_S + 1
    assert job_journal.DISPATCH_GRACE_S + 3 < waits[1] < job_journal.DISPATCH_GRACE_S + 9
    assert job_journal.DISPATCH_GRACE_S + 149 < waits[2] <= job_journal.DISPATCH_GRACE_S + 300


def test_a_verb_that_this_process_does_not_know_is_sent_all_the_same():
    task = overdue(name="payments.from_the_next_release")
    assert "payments.from_the_next_release" not in jobs.registry
    assert relay.once() == 1
    assert messages() == [str(task.id)]


def promised_later(seconds: float) -> job_journal.Job:
    task = nod.job().delayed(seconds)
    with transaction():
        enqueue(task)
    return task


def test_what_is_due_later_is_not_sent_with_its_commit_nor_before_its_time():
    now, later = nod.job(), nod.job().delayed(60)
    with transaction():
        enqueue(later)
        enqueue(now)
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
    broker.configure(valkey_server.url, timeout=5)
    assert relay.once() == 1
    assert messages() == [str(task.id)]


def test_what_was_dead_and_is_promised_anew_lives_again():
    def promised() -> job_journal.Job:
        task = nod.job().unique("every day")
        with transaction():
            enqueue(task)
        return task

    task = promised()
    columns = {"attempts": redelivery.MAX_ATTEMPTS, "error": "it broke"}
    job_journal.JobRow.update(columns).where(job_journal.JobRow.id == task.id).execute()
    _overdue(task)
    assert relay.once() == 0
    assert row(task).dead_at is not None

    assert promised().id == task.id
    lives = row(task)
    assert (lives.dead_at, lives.attempts, lives.error) == (None, 0, None)
    nod(str(task.id))
    assert job_journal.JobRow.select().count() == 0


def lines(many: int) -> list[job_journal.Job]:
    """Overdue jobs that share their messages, none of which waits."""
    tasks = [append.job(Line(id=uuid4())) for _ in range(many)]
    with transaction():
        for task in tasks:
            enqueue(task)
    broker.current().client.flushdb()
    let_be_due()
    return tasks


def let_be_due() -> None:
    """The time of every job has come."""
    now = postgres.rows("SELECT clock_timestamp() AS now")[0]["now"]
    job_journal.JobRow.update(due_at=now, created_at=now - timedelta(seconds=60)).execute()


def attempts(tasks: list[job_journal.Job]) -> list[int]:
    return [row(task).attempts for task in tasks]


def test_what_shares_a_message_is_sent_one_and_that_is_no_attempt():
    tasks = lines(jobs.BATCH_SIZE + 50)
    assert relay.once() == 1
    assert messages() == [str(tasks[0].id)]
    assert set(attempts(tasks)) == {0}
    assert relay.once() == 0
    sizes.clear()
    append(str(tasks[0].id))
    assert sizes == [jobs.BATCH_SIZE, 50]


def test_what_was_first_and_is_first_still_was_tried_and_what_is_behind_it_only_waits():
    tasks = lines(jobs.BATCH_SIZE + 1)
    relay.once()
    let_be_due()
    broker.current().client.flushdb()
    assert relay.once() == 1
    assert attempts(tasks) == [1] * jobs.BATCH_SIZE + [0]


def test_a_redis_that_takes_no_message_costs_no_attempt_of_those_that_share_one(monkeypatch):
    tasks = lines(3)
    tried = {"attempts": 4, "leased_until": job_journal.JobRow.created_at}
    job_journal.JobRow.update(tried).where(job_journal.JobRow.id == tasks[0].id).execute()
    with monkeypatch.context() as patch:
        patch.setattr(broker, "push", refused)
        for _ in range(3):
            let_be_due()
            with pytest.raises(redis.Unreachable):
                relay.once()
    assert attempts(tasks) == [4, 0, 0]
    assert relay.once() == 1
    assert attempts(tasks) == [5, 0, 0]


def test_what_kills_its_process_is_given_up_and_takes_no_other_with_it():
    tasks = lines(3)
    tried = {"attempts": redelivery.MAX_ATTEMPTS, "leased_until": job_journal.JobRow.created_at}
    job_journal.JobRow.update(tried).where(job_journal.JobRow.id == tasks[0].id).execute()
    # Those that were tried often are done one by one.
    sizes.clear()
    with postgres.database.atomic() as undone:
        append(str(tasks[0].id))
        undone.rollback()
    assert sizes == [1, 2]
    relay.once()
    assert row(tasks[0]).dead_at is not None
    assert [row(task).dead_at for task in tasks[1:]] == [None, None]


def test_what_shares_a_message_waits_for_one_that_waits_in_the_queue():
    tasks = lines(1)
    wait_in_queue(since=ago(61))
    assert relay.once() == 0
    assert attempts(tasks) == [0]


def test_one_that_failed_is_sent_by_itself_and_counted():
    [first, second] = lines(2)
    job_journal.JobRow.update(error="it broke").where(job_journal.JobRow.id == first.id).execute()
    assert relay.once() == 2
    assert messages() == [str(first.id), str(second.id)]
    assert attempts([first, second]) == [1, 0]


def pile_up(many: int, verb: str, sent_at: str) -> None:
    """So many jobs that were sent a minute ago, and wait for their turn."""
    # On a busy machine it takes long, and so does what comes after it.
    postgres.set_statement_timeout(120)
    postgres.rows(
        "INSERT INTO journal.jobs (id, name, queue, args, sent_at, due_at, created_at)"
        f" SELECT gen_random_uuid(), %s, %s, '{{}}', {sent_at}, clock_timestamp() - interval '1 second',"
        " clock_timestamp() - interval '1 minute' FROM generate_series(1, %s)",
        verb,
        QUEUE,
        many,
    )
    postgres.rows("ANALYZE journal.jobs")


def blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many blocks of the database one look touches."""
    touched, rows = 0, postgres.rows

    def explained(sql: str, *params: Any) -> list[dict[str, Any]]:
        nonlocal touched
        with postgres.database.atomic() as undone:
            [found] = rows(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *params)
            undone.rollback()
        plan = found["QUERY PLAN"]
        [top] = json.loads(plan) if isinstance(plan, str) else plan
        touched += top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"]
        return rows(sql, *params)

    with monkeypatch.context() as patched:
        patched.setattr(postgres, "rows", explained)
        relay.once()
    return touched


@pytest.mark.parametrize(
    ("verb", "sent_at"), [(nod.name, "clock_timestamp() - interval '1 minute'"), (append.name, "'infinity'")]
)
def test_a_look_costs_the_same_however_much_waits(monkeypatch, verb, sent_at):
    wait_in_queue(since=ago(600))
    pile_up(100, verb, sent_at)
    few = blocks(monkeypatch)
    pile_up(100_000, verb, sent_at)
    lost = overdue(error="it broke", sent_at=ago(60))
    wait_in_queue(since=ago(600))
    many = blocks(monkeypatch)
    assert row(lost).attempts == 1
    assert job_journal.JobRow.select().where(job_journal.JobRow.attempts > 0).count() == 1
    # An index is a level deeper, one row was found, and what other tests left is dead; all rows are 2,000 blocks
    # for each of the statements.
    assert many < few + 1000
