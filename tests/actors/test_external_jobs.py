"""External jobs on committed data with two connections: one worker calls, and every result is recorded."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from actors import broker, job_leases
from actors.external_jobs import external_job
from actors.jobs import enqueue, transaction, transactional_job
from db import job_journal, leased_jobs, postgres
from tests import makers
from tests.makers import until
from tests.tables import JobRow
from workers import relay

seen: list[object] = []
during_call: Callable[[], object] = list


@transactional_job("test_external_jobs.learn", queue="outside")
def learn(fact: str) -> None:
    seen.append(fact)


@external_job("test_external_jobs.call", queue="outside")
def call(fact: str) -> job_journal.Job:
    seen.append("called")
    during_call()
    return learn.job(fact)


@pytest.fixture(autouse=True)
def committed(stores) -> Iterator[None]:
    """Committed data, deleted after the test."""
    seen.clear()
    broker.current().client.flushdb()
    yield
    makers.wipe()


@pytest.fixture
def outside(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """Sets what happens during the call to the outside."""

    def set_call(function: Callable[[], object]) -> None:
        monkeypatch.setitem(globals(), "during_call", function)

    return set_call


@contextmanager
def heartbeat(monkeypatch: pytest.MonkeyPatch, *, lease: float, every: float) -> Iterator[None]:
    """Runs the heartbeat of a worker, with short leases."""
    monkeypatch.setattr(job_leases, "LEASE_S", lease)
    monkeypatch.setattr(job_leases, "_RENEW_EVERY_S", every)
    monkeypatch.setattr(job_leases, "_RENEW_MIN_AGE_S", 0)
    ended = threading.Event()
    thread = threading.Thread(target=job_leases.keep_renewing, args=(ended,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def enqueued(job: job_journal.Job) -> UUID:
    with postgres.connection(), transaction():
        enqueue(job)
    return job.id


def row(id: UUID) -> JobRow | None:
    with postgres.connection():
        return JobRow.get_or_none(JobRow.id == id)


def facts() -> list[str]:
    """The results that are enqueued to be recorded."""
    with postgres.connection():
        return [row.args["fact"] for row in JobRow.select().where(JobRow.name == learn.name)]


def test_a_lease_is_renewed_while_its_job_runs(monkeypatch, outside):
    id, go_on = enqueued(call.job("250")), threading.Event()
    outside(lambda: go_on.wait(60))
    # A loaded machine may renew it more than two seconds late.
    with heartbeat(monkeypatch, lease=3, every=0.2):
        worker = threading.Thread(target=call, args=(str(id),))
        worker.start()
        first = until(lambda: (found := row(id)) and found.leased_until)
        # Longer than the first lease, while the relay sends what is overdue.
        until(lambda: relay.once() or is_past(first))
        kept = row(id)
        assert kept is not None
        assert (kept.attempts, kept.leased_until > first) == (0, True)
        call(str(id))
        go_on.set()
        worker.join(60)
    assert seen == ["called"]
    assert row(id) is None
    assert facts() == ["250"]


def is_past(time: object) -> bool:
    """Whether this time has passed, by the database's clock."""
    with postgres.connection():
        return bool(postgres.rows("SELECT clock_timestamp() > %s AS over", time)[0]["over"])


def test_a_lease_is_not_renewed_for_a_thread_that_hangs(monkeypatch, outside):
    id = enqueued(call.job("?"))

    def hang() -> None:
        before = row(id)
        monkeypatch.setattr(job_leases, "_RENEW_MIN_AGE_S", -1)
        monkeypatch.setattr(job_leases, "RENEWED_FOR_S", 0)
        job_leases.renew()
        after = row(id)
        assert before is not None
        assert after is not None
        seen.append(after.leased_until == before.leased_until)

    outside(hang)
    call(str(id))
    assert seen == ["called", True]


def lose_the_lease(id: UUID) -> job_journal.Job:
    """Lets another worker lease the job."""
    with postgres.connection():
        past = {"due_at": JobRow.created_at, "leased_until": JobRow.created_at}
        JobRow.update(past).where(JobRow.id == id).execute()
        [other] = leased_jobs.lease(id, 60).jobs
    return other


def test_an_error_in_the_heartbeat_does_not_stop_it(monkeypatch):
    ended, renewals = threading.Event(), 0

    def renew() -> None:
        nonlocal renewals
        renewals += 1
        if renewals == 2:
            ended.set()
        raise RuntimeError("any error")

    monkeypatch.setattr(job_leases, "_RENEW_EVERY_S", 0.01)
    monkeypatch.setattr(job_leases, "renew", renew)
    job_leases.keep_renewing(ended)
    assert renewals == 2


def test_a_lost_lease_is_not_renewed(monkeypatch, outside):
    id = enqueued(call.job("?"))
    monkeypatch.setattr(job_leases, "_RENEW_MIN_AGE_S", 0)

    def lose() -> None:
        other = lose_the_lease(id)
        job_leases.renew()
        kept = row(id)
        assert kept is not None
        seen.append(kept.leased_until == other.leased_until)

    outside(lose)
    call(str(id))
    assert seen == ["called", True]


def test_a_result_after_a_lost_lease_is_recorded_and_the_job_removed(outside):
    id = enqueued(call.job("charged"))
    outside(lambda: lose_the_lease(id))
    call(str(id))
    assert facts() == ["charged"]
    assert row(id) is None
    call(str(id))
    assert seen == ["called"]


def test_a_result_is_recorded_even_if_another_worker_has_done_the_job(outside):
    id = enqueued(call.job("charged"))

    def lose() -> None:
        other = lose_the_lease(id)
        with postgres.connection():
            leased_jobs.remove([other])

    outside(lose)
    call(str(id))
    assert facts() == ["charged"]


def test_a_failure_after_a_lost_lease_does_not_postpone_the_job(outside):
    id = enqueued(call.job("?"))

    def lose() -> None:
        lose_the_lease(id)
        raise ConnectionError("late")

    outside(lose)
    call(str(id))
    kept = row(id)
    assert kept is not None
    assert (kept.error, kept.attempts) == (None, 1)
