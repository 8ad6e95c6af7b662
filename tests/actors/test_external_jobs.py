"""An external job is in one pair of hands, and what came of it is believed: with two connections, on committed data."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from actors import broker, job_leases
from actors.jobs import enqueue, external_job, transaction, transactional_job
from db import job_journal, postgres, redelivery
from tests import makers
from tests.makers import until
from workers import relay

seen: list[object] = []
doing: Callable[[], object] = list


@transactional_job("test_external_jobs.learn", queue="outside")
def learn(fact: str) -> None:
    seen.append(fact)


@external_job("test_external_jobs.call", queue="outside")
def call(fact: str) -> job_journal.Job:
    seen.append("called")
    doing()
    return learn.job(fact)


@pytest.fixture(autouse=True)
def committed(stores) -> Iterator[None]:
    """Data that is really committed, and cleaned up."""
    seen.clear()
    broker.current().client.flushdb()
    yield
    makers.wipe()


@pytest.fixture
def outside(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """What the other side does while it is called."""

    def does(what: Callable[[], object]) -> None:
        monkeypatch.setitem(globals(), "doing", what)

    return does


@contextmanager
def heartbeat(monkeypatch: pytest.MonkeyPatch, *, lease: float, every: float) -> Iterator[None]:
    """Leases are short, and renewed as in a worker."""
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
        thread.join(20)


def enqueued(task: job_journal.Job) -> UUID:
    with postgres.connection(), transaction():
        enqueue(task)
    return task.id


def row(id: UUID) -> job_journal.JobRow | None:
    with postgres.connection():
        return job_journal.JobRow.get_or_none(job_journal.JobRow.id == id)


def facts() -> list[str]:
    """What was learned and is to be written down."""
    with postgres.connection():
        return [
            it.args["fact"] for it in job_journal.JobRow.select().where(job_journal.JobRow.name == learn.name)
        ]


def test_a_lease_is_renewed_as_long_as_its_job_is_at_work(monkeypatch, outside):
    id, go_on = enqueued(call.job("250")), threading.Event()
    outside(lambda: go_on.wait(60))
    with heartbeat(monkeypatch, lease=2, every=0.2):
        worker = threading.Thread(target=call, args=(str(id),))
        worker.start()
        first = until(lambda: (found := row(id)) and found.leased_until)
        # As long as its first lease would have lasted, and longer, while the relay looks again and again.
        until(lambda: relay.once() or past(first))
        kept = row(id)
        assert kept is not None
        assert (kept.attempts, kept.leased_until > first) == (0, True)
        call(str(id))
        go_on.set()
        worker.join(20)
    assert seen == ["called"]
    assert row(id) is None
    assert facts() == ["250"]


def past(moment: object) -> bool:
    """Whether it is over, by the database's clock."""
    with postgres.connection():
        return bool(postgres.rows("SELECT clock_timestamp() > %s AS over", moment)[0]["over"])


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
    """Another has the job in hand by now."""
    with postgres.connection():
        past = {"due_at": job_journal.JobRow.created_at, "leased_until": job_journal.JobRow.created_at}
        job_journal.JobRow.update(past).where(job_journal.JobRow.id == id).execute()
        redelivery.resend("outside", None, 10)
        other = job_journal.lease(id, 60)
    assert other is not None
    return other


def test_a_fault_of_the_heartbeat_does_not_end_it(monkeypatch):
    ended, looks = threading.Event(), 0

    def renew() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            ended.set()
        raise RuntimeError("whatever it is")

    monkeypatch.setattr(job_leases, "_RENEW_EVERY_S", 0.01)
    monkeypatch.setattr(job_leases, "renew", renew)
    job_leases.keep_renewing(ended)
    assert looks == 2


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


def test_what_was_learned_after_the_lease_was_lost_is_written_down_and_the_job_is_done(outside):
    id = enqueued(call.job("charged"))
    outside(lambda: lose_the_lease(id))
    call(str(id))
    assert facts() == ["charged"]
    assert row(id) is None
    call(str(id))
    assert seen == ["called"]


def test_what_was_learned_is_written_down_also_where_another_has_done_it_meanwhile(outside):
    id = enqueued(call.job("charged"))

    def lose() -> None:
        other = lose_the_lease(id)
        with postgres.connection():
            job_journal.remove(other)

    outside(lose)
    call(str(id))
    assert facts() == ["charged"]


def test_who_fails_after_the_lease_was_lost_puts_nobody_off(outside):
    id = enqueued(call.job("?"))

    def lose() -> None:
        lose_the_lease(id)
        raise ConnectionError("late")

    outside(lose)
    call(str(id))
    kept = row(id)
    assert kept is not None
    assert (kept.error, kept.attempts) == (None, 1)
