"""One scheduler is the leader, and the journal has at most one job of each periodic kind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta

import freezegun
import psycopg2
import pytest

from actors import housekeeping, payment_reconciliation
from db import (
    heartbeats,
    job_journal,
    job_runs,
    leases,
    payments_in_progress,
    postgres,
    redelivery,
    redis,
    sessions,
)
from tests import makers
from tests.makers import SECRETS, until, work
from tests.tables import JobRow
from workers import scheduler
from workers.scheduler import Leader

NOON = "2026-03-01T12:00:00Z"
# The scheduler process that asks for its lease more often, and a job that is enqueued each second.
BUSY = """
from datetime import timedelta
from workers import scheduler
scheduler._RENEW_EVERY_S = 0.3
scheduler.JOBS[scheduler.payment_reconciliation.reconcile] = timedelta(seconds=1)
scheduler.run()
"""


# A process of such low priority gets a hundredth of a machine that has thirty others to run.
PATIENCE_S = 240


@pytest.fixture
def leader(database) -> Leader:
    leader = Leader()
    assert leader.check()
    return leader


def waiting(name: str) -> list[JobRow]:
    return list(JobRow.select().where(JobRow.name == name))


def expire_the_lease() -> None:
    postgres.rows("UPDATE journal.leases SET expires_at = clock_timestamp()")


def test_twelve_runs_without_a_worker_leave_one_job(leader):
    for _ in range(12):
        assert scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    assert len(waiting("payments.reconcile")) == 1
    assert work() == ["payments.reconcile"]
    assert scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    assert work() == ["payments.reconcile"]


def test_nothing_is_written_while_there_is_nothing_to_reconcile(leader):
    def enqueued() -> int:
        scheduler._try_enqueue(
            payment_reconciliation.reconcile, leader, payments_in_progress.may_need_reconciliation
        )
        return len(waiting("payments.reconcile"))

    assert enqueued() == 0
    payment = makers.payment(makers.user())
    assert enqueued() == 1
    work()
    assert makers.reload(payment).status == "completed"
    assert enqueued() == 0


def test_looking_for_something_to_reconcile_reads_no_settled_calls(database):
    # Without statistics, as after the migration that adds the column.
    postgres.rows(
        "INSERT INTO payments.psp_attempts (id, payment_id, operation, reference, outcome, ended_at, settled_at)"
        " SELECT gen_random_uuid(), %s, 'charge', 'x', 'charged', clock_timestamp(), clock_timestamp()"
        " FROM generate_series(1, 5000)",
        makers.payment().id,
    )
    postgres.rows("DELETE FROM payments.payments_in_progress")
    before = rows_read()
    assert not payments_in_progress.may_need_reconciliation()
    assert rows_read() - before < 100


def rows_read() -> int:
    read = "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables"
    return int(postgres.value(read))


def test_a_dead_periodic_job_gets_new_attempts_at_its_next_run(leader):
    scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    dead = {
        "dead_at": JobRow.created_at,
        "attempts": job_journal.MAX_ATTEMPTS,
        "error": "it broke",
    }
    JobRow.update(dead).execute()
    scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    [row] = waiting("payments.reconcile")
    assert (row.dead_at, row.attempts) == (None, 0)
    assert work() == ["payments.reconcile"]


def test_a_failed_periodic_job_is_due_at_its_next_run(leader):
    scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    [row] = waiting("payments.reconcile")
    job_journal.record_failure(row.id, "it broke")
    JobRow.update(due_at=row.due_at + timedelta(minutes=5)).execute()
    scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    assert redelivery.overdue_queues(["payments"], redelivery.RECENT_S) == ["payments"]


def test_the_start_and_the_end_of_a_run_are_recorded(leader, monkeypatch):
    scheduler.enqueue_scheduled(housekeeping.expire_one_time_tokens, leader)
    name = housekeeping.expire_one_time_tokens.name
    assert job_runs.last_finished() == {name: None}
    with monkeypatch.context() as broken:
        broken.setattr("db.one_time_tokens.delete_expired", lambda _now: 1 / 0)
        [row] = waiting("housekeeping.expire_one_time_tokens")
        housekeeping.expire_one_time_tokens(str(row.id))
    assert job_runs.last_finished() == {name: None}
    work()
    assert job_runs.last_finished()[name]


def test_a_leader_replaced_while_frozen_enqueues_nothing(leader):
    expire_the_lease()
    other = Leader()
    assert other.check()
    assert not scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    assert JobRow.select().count() == 0
    assert job_runs.last_finished() == {}
    assert scheduler.enqueue_scheduled(payment_reconciliation.reconcile, other)
    assert not leader.check()


def test_a_leader_frozen_and_not_replaced_stays_the_leader(leader):
    expire_the_lease()
    assert leader.check()
    assert not Leader().check()


def test_a_leader_that_resigns_is_replaced_at_once(leader):
    other = Leader()
    assert not other.check()
    leader.resign()
    assert other.check()
    assert not scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)


@pytest.mark.parametrize(("at", "left"), [("2026-03-08T11:59:59Z", 1), ("2026-03-08T12:00:00Z", 0)])
def test_a_refresh_token_is_deleted_after_seven_days_with_its_session(client, leader, at, left):
    with freezegun.freeze_time(NOON):
        makers.visitor(client)
        work()
    with freezegun.freeze_time(at):
        scheduler.enqueue_scheduled(housekeeping.expire_refresh_tokens, leader)
        work()
    assert sessions.RefreshToken.select().count() == left
    assert sessions.Session.select().count() == left


@pytest.mark.parametrize("job", scheduler.JOBS, ids=lambda job: job.name)
def test_every_periodic_job_runs_twice(leader, job):
    for _ in range(2):
        scheduler.enqueue_scheduled(job, leader)
        assert work(also=job.name).count(job.name) == 1


def test_a_leader_whose_lease_row_is_locked_stays_the_leader(stores):
    leader = Leader()
    try:
        with closing(psycopg2.connect(stores["DATABASE_URL"])) as job, postgres.connection():
            assert leader.check()
            job.cursor().execute("SELECT FROM journal.leases FOR SHARE")
            postgres.rows("SET lock_timeout = '50ms'")
            assert leader.check()
            postgres.rows("RESET lock_timeout")
            job.rollback()
            leader.resign()
    finally:
        makers.wipe()


@pytest.fixture
def schedulers(stores, root) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two scheduler processes."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BUSY],
            cwd=root,
            env={**os.environ, **SECRETS, **stores},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    yield started
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(20)
    makers.wipe()


def leading() -> int | None:
    """The process id of the leader, once a reconciliation has been enqueued."""
    with postgres.connection():
        holder = leases.holder(leases.SCHEDULER)
        ran = payment_reconciliation.reconcile.name in job_runs.last_finished()
        return int(holder.rpartition(":")[2]) if holder and ran else None


def test_a_leader_that_hangs_is_replaced_and_one_that_stops_is_replaced_at_once(schedulers, stores):
    first = until(leading, PATIENCE_S)
    os.kill(first, signal.SIGSTOP)
    # By the database's clock, independent of delays of this test.
    [seen] = lease_rows()
    assert seen["left"] <= scheduler.LEASE_S < 30
    # Not by waiting: a lease short enough for that would also end where a loaded machine renews it late.
    until(lease_expired, PATIENCE_S)
    second = until(lambda: leading() not in (None, first) and leading(), PATIENCE_S)
    assert second in {process.pid for process in schedulers} - {first}
    with postgres.connection():
        # The second leader enqueues what is no longer in the journal.
        JobRow.delete().execute()
        until(lambda: waiting(payment_reconciliation.reconcile.name), PATIENCE_S)

    os.kill(first, signal.SIGCONT)
    [asleep, other] = [process for pid in (first, second) for process in schedulers if process.pid == pid]
    client = redis.connect(stores["REDIS_URL"])
    until(lambda: heartbeats.count_workers(heartbeats.processes(client)).get("scheduler") == 2, PATIENCE_S)
    assert leading() == second
    other.terminate()
    assert other.wait(PATIENCE_S) == 0
    assert until(leading, PATIENCE_S) == asleep.pid


def lease_expired() -> bool:
    """Ends the lease, unless the process that was stopped has it locked: that transaction is soon ended."""
    with suppress(*postgres.TRANSIENT_ERRORS), postgres.connection():
        expire_the_lease()
        return True
    return False


def lease_rows() -> list[dict[str, float]]:
    with postgres.connection():
        return postgres.rows(
            "SELECT extract(epoch FROM expires_at - clock_timestamp())::float AS left FROM journal.leases"
        )
