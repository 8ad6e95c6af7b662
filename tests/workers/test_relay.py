"""The relay: which jobs it sends again, and which attempts it counts."""

import json
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from dramatiq import Message
from peewee import SQL

from actors import batch_jobs, broker, jobs
from actors.batch_jobs import BatchEntry, batch_job
from actors.external_jobs import external_job
from actors.jobs import enqueue, transaction, transactional_job
from db import job_floors, job_journal, leased_jobs, postgres, redelivery, redis
from db.core import times
from db.prepared import Statement
from tests import makers
from tests.counting import counted
from tests.tables import JobRow
from workers import relay

QUEUE = "relayed"


@transactional_job("test_relay.nod", queue=QUEUE)
def nod() -> None:
    """Nothing."""


class Line(BatchEntry):
    pass


@external_job("test_relay.call", queue=QUEUE)
def call() -> None:
    """Nothing."""


sizes: list[int] = []


@batch_job("test_relay.append", Line, queue=QUEUE)
def append(lines: Sequence[Line]) -> None:
    sizes.append(len(lines))


@pytest.fixture(autouse=True)
def empty_redis(database):
    broker.current().client.flushdb()


@pytest.fixture
def redis_unavailable(valkey_server):
    broker.configure("redis://127.0.0.1:1/0", timeout=0.5)
    yield
    broker.configure(valkey_server.url, timeout=30)


def overdue(**columns: object) -> job_journal.Job:
    """An overdue job without a message in Redis."""
    job = nod.job()
    with transaction():
        enqueue(job)
    broker.current().client.flushdb()
    return _overdue(job, **columns)


def overdue_without_redis() -> job_journal.Job:
    """The same, while Redis is unavailable."""
    job = nod.job()
    with transaction():
        enqueue(job)
    return _overdue(job)


def _overdue(job: job_journal.Job, **columns: object) -> job_journal.Job:
    if "error" in columns:
        # No message was sent since it failed.
        columns.setdefault("sent_at", SQL("'-infinity'"))
    columns.setdefault("due_at", postgres.rows("SELECT clock_timestamp() - interval '1 second' AS t")[0]["t"])
    JobRow.update(**columns).where(JobRow.id == job.id).execute()
    return job


def row(job: job_journal.Job) -> JobRow:
    return JobRow.get_by_id(job.id)


def messages() -> list[str]:
    """The ids of the waiting messages, read as a Dramatiq worker does."""
    consumer, found = broker.current().consume(QUEUE, prefetch=10, timeout=1), []
    while message := next(consumer):
        found.append(message.message_id)
        consumer.ack(message)
    return found


def test_a_pushed_message_is_read_by_dramatiq():
    job = nod.job()
    broker.push([job])
    consumer = broker.current().consume(QUEUE, prefetch=1, timeout=1)
    proxy = next(consumer)
    assert proxy is not None
    assert (proxy.message_id, proxy.actor_name, proxy.args) == (str(job.id), nod.name, (str(job.id),))
    consumer.ack(proxy)
    assert broker.current().client.keys("dramatiq:relayed*") == []

    # A message that Dramatiq writes is stored under the same keys.
    broker.current().enqueue(Message(QUEUE, nod.name, (), {}, {}))
    assert broker.current().client.llen(f"dramatiq:{QUEUE}") == 1


def test_a_new_job_is_left_to_its_first_message():
    with transaction():
        enqueue(nod.job())
    assert relay.once() == 0


def test_an_overdue_job_is_sent_and_its_attempt_counted():
    job = overdue()
    assert relay.once() == 1
    assert messages() == [str(job.id)]
    assert row(job).attempts == 1
    assert relay.once() == 0


def ago(seconds: float) -> datetime:
    return times.now() - timedelta(seconds=seconds)


def wait_in_queue(since: datetime) -> None:
    """Puts a message into the queue that no worker has fetched."""
    millis = int(since.timestamp() * 1000)
    broker.current().enqueue(Message(QUEUE, nod.name, (), {}, {}, message_timestamp=millis))


def test_a_job_whose_message_still_waits_is_not_sent_again():
    job = overdue(sent_at=ago(60))
    wait_in_queue(since=ago(61))
    assert relay.once() == 0
    assert row(job).attempts == 0


def test_a_job_whose_message_was_lost_is_sent_again_in_a_busy_queue():
    # Within the minute that is searched after slow searches, such as those of a busy machine.
    job = overdue(sent_at=ago(40))
    wait_in_queue(since=ago(30))
    assert relay.once() == 1
    assert row(job).attempts == 1


def test_a_job_that_is_overdue_for_minutes_is_sent_though_searches_are_slow(monkeypatch):
    monkeypatch.setattr(redelivery, "_full_search", {"slow": 2, "next_at": 0.0})
    monkeypatch.setattr(job_floors, "SLOW_S", -1)
    job = overdue(sent_at=ago(120), due_at=ago(110))
    assert relay.once() == 1
    assert messages() == [str(job.id)]


def test_jobs_that_are_overdue_for_minutes_are_sent_batch_after_batch_though_searches_are_slow(monkeypatch):
    monkeypatch.setattr(redelivery, "_full_search", {"slow": 2, "next_at": 0.0})
    monkeypatch.setattr(job_floors, "SLOW_S", -1)
    monkeypatch.setattr(relay, "RESEND_BATCH", 2)
    for _ in range(5):
        overdue(sent_at=ago(120), due_at=ago(110))
    assert [relay.once() for _ in range(4)] == [2, 2, 1, 0]


def test_a_failed_job_is_sent_again_in_a_busy_queue():
    job = overdue()
    job_journal.record_failure(job.id, "it broke")
    _overdue(job)
    wait_in_queue(since=ago(61))
    assert relay.once() == 1
    assert row(job).attempts == 1
    # From now on it waits as any other job, which is no attempt.
    _overdue(job)
    assert relay.once() == 0
    assert row(job).attempts == 1


@pytest.mark.usefixtures("redis_unavailable")
def test_an_unavailable_redis_costs_no_attempt():
    job = overdue_without_redis()
    with pytest.raises(redis.Unreachable):
        relay.once()
    assert row(job).attempts == 0


def push_fails(*_: object) -> None:
    raise redis.Unreachable("OOM command not allowed when used memory > 'maxmemory'")


def test_a_redis_that_fails_at_the_push_costs_no_attempt(monkeypatch):
    job = overdue()

    monkeypatch.setattr(broker, "push", push_fails)
    with pytest.raises(redis.Unreachable):
        relay.once()
    assert row(job).attempts == 0
    monkeypatch.undo()
    assert relay.once() == 1
    assert row(job).attempts == 0


def test_after_the_last_attempt_a_job_is_dead_until_it_is_retried():
    job = overdue(attempts=job_journal.MAX_ATTEMPTS, error="it broke")
    assert relay.once() == 0
    assert row(job).dead_at is not None
    nod(str(job.id))
    assert row(job).dead_at is not None

    job_journal.retry_dead([job.id])
    assert relay.once() == 1
    assert row(job).attempts == 0


def test_pauses_between_attempts_grow():
    job = overdue(error="it broke")
    pauses = []
    for attempts in (0, 4, 19):
        _overdue(job, error="it broke", attempts=attempts)
        relay.once()
        pause = postgres.rows("SELECT extract(epoch FROM due_at - sent_at) AS s FROM journal.jobs")
        pauses.append(float(pause[0]["s"]))
    assert job_journal.DISPATCH_GRACE_S <= pauses[0] < job_journal.DISPATCH_GRACE_S + 1
    assert job_journal.DISPATCH_GRACE_S + 3 < pauses[1] < job_journal.DISPATCH_GRACE_S + 9
    assert job_journal.DISPATCH_GRACE_S + 149 < pauses[2] <= job_journal.DISPATCH_GRACE_S + 300


def test_a_job_unknown_to_this_process_is_sent():
    job = overdue(name="payments.from_the_next_release")
    assert "payments.from_the_next_release" not in jobs.registry
    assert relay.once() == 1
    assert messages() == [str(job.id)]


def enqueued_delayed(seconds: float) -> job_journal.Job:
    job = nod.job().delayed(seconds)
    with transaction():
        enqueue(job)
    return job


def test_a_delayed_job_is_sent_neither_at_its_commit_nor_before_it_is_due():
    now, later = nod.job(), nod.job().delayed(60)
    with transaction():
        enqueue(later)
        enqueue(now)
    assert messages() == [str(now.id)]
    assert relay.once() == 0
    assert row(later).attempts == 0


def test_a_delayed_job_is_sent_when_it_is_due():
    job = enqueued_delayed(0.3)
    due = row(job)
    assert 0.2 < (due.due_at - due.created_at).total_seconds() < 2
    assert makers.until(relay.once) == 1
    assert messages() == [str(job.id)]
    assert row(job).sent_at >= due.due_at
    # From now on it is treated as any other job.
    assert relay.once() == 0
    _overdue(job)
    assert relay.once() == 1


@pytest.mark.parametrize("waits_since", [3600, 61, 1, 0])
def test_a_delayed_job_is_sent_when_it_is_due_in_a_busy_queue(waits_since):
    job = enqueued_delayed(60)
    for seconds in (waits_since, 0):
        wait_in_queue(since=ago(seconds))
    assert relay.once() == 0
    _overdue(job)
    assert relay.once() == 1
    assert str(job.id) in messages()


@pytest.mark.usefixtures("redis_unavailable")
def test_a_delayed_job_is_sent_after_an_outage_of_redis(valkey_server):
    job = enqueued_delayed(60)
    _overdue(job)
    with pytest.raises(redis.Unreachable):
        relay.once()
    broker.configure(valkey_server.url, timeout=30)
    assert relay.once() == 1
    assert messages() == [str(job.id)]


def test_a_dead_unique_job_that_is_enqueued_again_gets_new_attempts():
    def enqueued() -> job_journal.Job:
        job = nod.job().unique("every day")
        with transaction():
            enqueue(job)
        return job

    job = enqueued()
    _overdue(job, attempts=job_journal.MAX_ATTEMPTS, error="it broke")
    assert relay.once() == 0
    assert row(job).dead_at is not None

    assert enqueued().id == job.id
    retried = row(job)
    assert (retried.dead_at, retried.attempts, retried.error) == (None, 0, None)
    nod(str(job.id))
    assert JobRow.select().count() == 0


def lines(many: int) -> list[job_journal.Job]:
    """Overdue jobs of a batch, without a message in Redis."""
    entries = [append.job(Line(id=uuid4())) for _ in range(many)]
    with transaction():
        for job in entries:
            enqueue(job)
    broker.current().client.flushdb()
    make_all_due()
    return entries


def make_all_due() -> None:
    """Makes every job due."""
    now = postgres.rows("SELECT clock_timestamp() AS now")[0]["now"]
    JobRow.update(due_at=now, created_at=now - timedelta(seconds=60)).execute()


def attempts(entries: list[job_journal.Job]) -> list[int]:
    # In one statement: hundreds take a loaded machine so long that their jobs are overdue again.
    counted = {row.id: row.attempts for row in JobRow.select(JobRow.id, JobRow.attempts)}
    return [counted[job.id] for job in entries]


def test_a_batch_is_sent_one_message_which_counts_no_attempt():
    entries = lines(batch_jobs.BATCH_SIZE + 50)
    assert relay.once() == 1
    assert messages() == [str(entries[0].id)]
    assert set(attempts(entries)) == {0}
    assert relay.once() == 0
    sizes.clear()
    append(str(entries[0].id))
    assert sizes == [batch_jobs.BATCH_SIZE, 50]


def test_only_entries_that_were_and_still_are_among_the_first_count_an_attempt():
    entries = lines(batch_jobs.BATCH_SIZE + 1)
    relay.once()
    make_all_due()
    broker.current().client.flushdb()
    assert relay.once() == 1
    assert attempts(entries) == [1] * batch_jobs.BATCH_SIZE + [0]


def test_a_redis_that_fails_at_the_push_costs_no_attempt_of_a_batch(monkeypatch):
    entries = lines(3)
    tried = {"attempts": 4, "leased_until": JobRow.created_at}
    JobRow.update(tried).where(JobRow.id == entries[0].id).execute()
    with monkeypatch.context() as patch:
        patch.setattr(broker, "push", push_fails)
        for _ in range(3):
            make_all_due()
            with pytest.raises(redis.Unreachable):
                relay.once()
    assert attempts(entries) == [4, 0, 0]
    assert relay.once() == 1
    assert attempts(entries) == [5, 0, 0]


def test_an_entry_that_kills_its_process_dies_alone():
    entries = lines(3)
    tried = {"attempts": job_journal.MAX_ATTEMPTS, "leased_until": JobRow.created_at}
    JobRow.update(tried).where(JobRow.id == entries[0].id).execute()
    # An entry with many attempts is done alone.
    sizes.clear()
    with postgres.database.atomic() as rolled_back:
        append(str(entries[0].id))
        rolled_back.rollback()
    assert sizes == [1, 2]
    relay.once()
    assert row(entries[0]).dead_at is not None
    assert [row(job).dead_at for job in entries[1:]] == [None, None]


def test_a_batch_is_not_sent_while_its_message_may_wait():
    entries = lines(1)
    wait_in_queue(since=ago(61))
    assert relay.once() == 0
    assert attempts(entries) == [0]


def test_a_failed_entry_is_sent_alone_and_counts_an_attempt():
    [first, second] = lines(2)
    job_journal.record_failure(first.id, "it broke")
    make_all_due()
    assert relay.once() == 2
    assert messages() == [str(first.id), str(second.id)]
    assert attempts([first, second]) == [1, 0]


def calls(many: int = 1) -> list[job_journal.Job]:
    """Overdue jobs that call the outside, without a message in Redis."""
    entries = [call.job() for _ in range(many)]
    with transaction():
        for job in entries:
            enqueue(job)
    broker.current().client.flushdb()
    make_all_due()
    return entries


def test_one_message_wakes_a_worker_for_all_calls_that_wait_and_counts_no_attempt():
    entries = calls(3)
    for _ in range(2):
        assert relay.once() == 0
        assert messages() == [str(entries[0].id)]
        broker.current().client.flushdb()
    assert attempts(entries) == [0, 0, 0]


def test_a_lease_that_expired_is_an_attempt():
    [expired, _waits] = entries = calls(2)
    assert leased_jobs.lease(expired.id, 0).jobs
    relay.once()
    assert messages() == [str(expired.id)]
    assert attempts(entries) == [0, 0]
    with postgres.database.atomic() as rolled_back:
        assert [job.attempts for job in leased_jobs.lease_first(call.name, 10, 60).jobs] == [1, 0]
        rolled_back.rollback()


def test_a_call_that_failed_is_an_attempt_when_it_is_due_again():
    [failed] = entries = calls()
    job_journal.record_failure(failed.id, "nobody answers")
    assert relay.once() == 0
    call(str(failed.id))
    assert attempts(entries) == [0]
    _overdue(failed)
    assert relay.once() == 1
    assert attempts(entries) == [1]
    call(str(failed.id))
    assert JobRow.select().count() == 0


def test_a_call_that_kills_its_process_is_dead_after_the_last_attempt():
    [deadly] = calls()
    for _ in range(job_journal.MAX_ATTEMPTS + 1):
        assert leased_jobs.lease(deadly.id, 0).jobs
    call(str(deadly.id))
    assert row(deadly).dead_at is not None
    job_journal.retry_dead([deadly.id])
    assert relay.once() == 1
    call(str(deadly.id))
    assert JobRow.select().count() == 0


def test_a_delayed_call_waits_for_its_time():
    job = call.job().delayed(60)
    with transaction():
        enqueue(job)
    assert relay.once() == 0
    call(str(job.id))
    assert row(job).leased_until is None
    _overdue(job)
    assert relay.once() == 1
    assert messages() == [str(job.id)]
    assert row(job).attempts == 0
    call(str(job.id))
    assert JobRow.select().count() == 0


def test_a_redis_that_fails_at_the_push_loses_no_call(monkeypatch):
    [failed] = entries = calls()
    job_journal.record_failure(failed.id, "nobody answers")
    _overdue(failed)
    with monkeypatch.context() as patch:
        patch.setattr(broker, "push", push_fails)
        with pytest.raises(redis.Unreachable):
            relay.once()
    assert attempts(entries) == [1]
    make_all_due()
    relay.once()
    assert messages() == [str(failed.id)]


def test_a_pass_that_finds_nothing_is_one_statement():
    relay.once()
    with counted() as asked:
        assert relay.once() == 0
    assert len(asked.statements) == 1
    assert not asked.trips


def insert_waiting(many: int, name: str, sent_at: str) -> None:
    """Inserts this many jobs that were sent a minute ago and wait for a worker."""
    # Slow on a busy machine, as are the statements after it.
    postgres.set_statement_timeout(120)
    postgres.rows(
        "INSERT INTO journal.jobs (id, name, queue, args, sent_at, due_at, created_at)"
        f" SELECT gen_random_uuid(), %s, %s, '{{}}', {sent_at}, clock_timestamp() - interval '1 second',"
        " clock_timestamp() - interval '1 minute' FROM generate_series(1, %s)",
        name,
        QUEUE,
        many,
    )
    postgres.rows("ANALYZE journal.jobs")


def blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many database blocks one pass of the relay touches."""
    touched, rows = 0, postgres.rows

    def explained(sql: str | Statement, *params: Any, **named: Any) -> list[dict[str, Any]]:
        nonlocal touched
        text = sql.plain if isinstance(sql, Statement) else sql
        with postgres.database.atomic() as rolled_back:
            [found] = rows(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", *params, **named)
            rolled_back.rollback()
        plan = found["QUERY PLAN"]
        [top] = json.loads(plan) if isinstance(plan, str) else plan
        touched += top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"]
        return rows(sql, *params, **named)

    with monkeypatch.context() as patched:
        patched.setattr(postgres, "rows", explained)
        relay.once()
    return touched


@pytest.mark.parametrize(
    ("name", "sent_at"), [(nod.name, "clock_timestamp() - interval '1 minute'"), (append.name, "'infinity'")]
)
def test_a_pass_costs_the_same_however_many_jobs_wait(monkeypatch, stores, name, sent_at):
    # Other tests left dead rows.
    with closing(psycopg2.connect(stores["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("VACUUM journal.jobs")
    wait_in_queue(since=ago(600))
    insert_waiting(100, name, sent_at)
    few = blocks(monkeypatch)
    insert_waiting(100_000, name, sent_at)
    lost = overdue(error="it broke")
    wait_in_queue(since=ago(600))
    many = blocks(monkeypatch)
    assert row(lost).attempts == 1
    assert JobRow.select().where(JobRow.attempts > 0).count() == 1
    # The index is a level deeper, and one row was found. All rows would be 2,000 blocks for each statement.
    assert many < few + 1000
