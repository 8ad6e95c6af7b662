"""Slow payments of one customer delay neither other customers nor the resolution of unknown outcomes."""

import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import dramatiq
import pytest

from actors import broker, fair_share, job_leases, payment_jobs
from actors.jobs import enqueue, external_job, transaction
from actors.psp import provider
from actors.psp.stub import Stub
from actors.worker_threads import WorkerThreads
from db import job_journal, payments, postgres
from db.users import User
from tests import makers
from tests.makers import until
from workers import main, relay
from workers.process import WorkerSettings

seen: list[str] = []
during_call: Callable[[str], object] = print


@external_job("test_fair_share.call", queue="shared", share="customer")
def call(customer: str, what: str) -> None:
    seen.append(f"{customer}{what}")
    during_call(f"{customer}{what}")


@pytest.fixture(autouse=True)
def committed(stores, valkey_server, monkeypatch) -> Iterator[None]:
    """Committed data, deleted after the test; shares of one thread, with nothing waiting."""
    seen.clear()
    broker.configure(valkey_server.url, timeout=5).client.flushdb()
    monkeypatch.setattr(fair_share, "_all", [])
    for kind in (call, payment_jobs.charge):
        monkeypatch.setattr(kind, "shares", fair_share.FairShares())
    call.shares.limit = 1
    yield
    broker.configure(valkey_server.url, timeout=5).client.flushdb()
    makers.wipe()


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    """An event that ends all slow calls."""
    event = threading.Event()
    yield event
    event.set()


def enqueued(customer: str, what: str) -> UUID:
    job = call.job(customer, what)
    with postgres.connection(), transaction():
        enqueue(job)
    return job.id


def row(id: UUID) -> job_journal.JobRow:
    with postgres.connection():
        found: job_journal.JobRow = job_journal.JobRow.get_by_id(id)
        return found


def in_a_thread(id: UUID) -> threading.Thread:
    thread = threading.Thread(target=call, args=(str(id),))
    thread.start()
    return thread


def test_jobs_above_a_share_wait_and_delay_no_other_customer(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda what: what == "a1" and go_on.wait(60))
    first, *others = [enqueued("a", str(n)) for n in (1, 2, 3)]
    thread = in_a_thread(first)
    until(lambda: seen == ["a1"])
    # These are set aside at once, and the other customer is served.
    for id in others:
        call(str(id))
    call(str(enqueued("b", "1")))
    assert seen == ["a1", "b1"]

    # It has no lease, counts no attempt, and is not sent again while this process postpones it.
    waiting = row(others[0])
    assert (waiting.leased_until, waiting.attempts, waiting.error) == (None, 0, None)
    job_leases.renew()
    # Postponed a moment ago: its row is not written again.
    assert row(others[0]).due_at == waiting.due_at
    with postgres.connection():
        job_journal.JobRow.update(due_at=waiting.created_at).where(
            job_journal.JobRow.id == others[0]
        ).execute()
    job_leases.renew()
    assert row(others[0]).due_at >= waiting.due_at
    assert relay.once() == 0

    go_on.set()
    thread.join(20)
    assert seen == ["a1", "b1", "a2", "a3"]
    with postgres.connection():
        assert job_journal.JobRow.select().count() == 0


def test_a_heartbeat_at_the_same_time_leaves_no_lease_on_a_job_set_aside(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda _what: go_on.wait(60))
    thread = in_a_thread(enqueued("a", "1"))
    until(lambda: seen == ["a1"])
    second, has_room = enqueued("a", "2"), call.shares.has_room

    def beat() -> bool:
        # The job is leased, and not yet set aside.
        job_leases.renew()
        return has_room()

    monkeypatch.setattr(call.shares, "has_room", beat)
    call(str(second))
    assert row(second).leased_until is None
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2"]


def test_a_job_whose_message_arrives_twice_waits_once(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda _what: go_on.wait(60))
    thread = in_a_thread(enqueued("a", "1"))
    until(lambda: seen == ["a1"])
    second = enqueued("a", "2")
    call(str(second))
    call(str(second))
    assert call.shares.waiting_ids() == [second]
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2"]


def test_a_failed_job_lets_the_next_one_begin(monkeypatch, go_on):
    def fail(what: str) -> None:
        go_on.wait(60)
        if what != "a3":
            raise ConnectionError(what)

    monkeypatch.setitem(globals(), "during_call", fail)
    ids = [enqueued("a", str(n)) for n in (1, 2, 3)]
    thread = in_a_thread(ids[0])
    until(lambda: seen == ["a1"])
    for id in ids[1:]:
        call(str(id))
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2", "a3"]
    assert [row(id).error for id in ids[:2]] == ["ConnectionError: a1", "ConnectionError: a2"]


def test_a_job_above_the_limit_of_waiting_jobs_is_sent_again_without_an_attempt(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda _what: go_on.wait(60))
    monkeypatch.setattr(fair_share, "SET_ASIDE_MAX", 1)
    thread = in_a_thread(enqueued("a", "1"))
    until(lambda: seen == ["a1"])
    call(str(enqueued("a", "2")))
    third = enqueued("a", "3")
    with postgres.connection():
        job_journal.JobRow.update(attempts=3).where(job_journal.JobRow.id == third).execute()
    call(str(third))
    assert third not in call.shares.waiting_ids()
    assert (row(third).attempts, row(third).leased_until) == (2, None)
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2"]


def test_a_stopped_process_leaves_its_waiting_jobs_to_others(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda _what: go_on.wait(60))
    thread = in_a_thread(enqueued("a", "1"))
    until(lambda: seen == ["a1"])
    second = enqueued("a", "2")
    call(str(second))
    broker.current().client.flushdb()
    with postgres.connection():
        fair_share.close()
    go_on.set()
    thread.join(20)
    assert seen == ["a1"]
    assert relay.once() == 1
    assert row(second).attempts == 1


@pytest.fixture
def serve(stores) -> Iterator[Callable[..., None]]:
    """Starts real Dramatiq workers."""
    workers: list[dramatiq.Worker] = []
    settings = WorkerSettings.read({**makers.SECRETS, **stores})

    def start(queue: str, threads: int, share: int | None = None) -> None:
        workers.append(main.start_worker({queue}, WorkerThreads(threads), settings, share=share))

    yield start
    for worker in workers:
        worker.stop()


def paid(customer: User, **metadata: str) -> UUID:
    with postgres.connection():
        return makers.payment(customer, **metadata).id


def customer() -> User:
    with postgres.connection():
        return makers.user()


def statuses(ids: list[UUID]) -> list[str]:
    with postgres.connection():
        found = payments.Payment.select().where(payments.Payment.id.in_(ids))
        return sorted(str(payment.status) for payment in found)


def charges() -> int:
    """How many charges the PSP got."""
    with postgres.connection():
        found = postgres.rows("SELECT count(*) AS n FROM payments.psp_attempts WHERE operation = 'charge'")
        return int(found[0]["n"])


def test_eighty_slow_payments_of_one_customer_delay_no_other(serve, go_on):
    """Independent of time: none of the eighty ends before the other customer's payment."""
    provider.choose(Stub(payment_jobs.receive_notice, sleep=lambda _seconds: go_on.wait(120)))
    one, other = customer(), customer()
    slow = [paid(one, simulate="slow") for _ in range(80)]
    serve("payments", 4)
    serve("psp", 6, share=2)
    until(lambda: statuses(slow) == ["processing"] * 80)
    until(lambda: len(payment_jobs.charge.shares.waiting_ids()) == 78)
    quick = paid(other, simulate="approve")
    until(lambda: statuses([quick]) == ["completed"])
    assert statuses(slow) == ["processing"] * 80
    assert charges() == 3

    go_on.set()
    until(lambda: statuses(slow) == ["completed"] * 80)
    assert charges() == 81


def test_an_unknown_outcome_is_resolved_while_all_charges_hang(serve, go_on):
    def sleep(seconds: float) -> None:
        # Who plays `slow` waits for three seconds, an answer that is lost is given up after one.
        if seconds > 2:
            go_on.wait(120)

    provider.choose(Stub(payment_jobs.receive_notice, sleep=sleep))
    serve("payments", 4)
    serve("psp", 2)
    serve("psp-inquiries", 1)
    lost = paid(customer(), simulate="timeout")
    until(lambda: statuses([lost]) == ["processing"] and charges() == 1)
    slow = [paid(customer(), simulate="slow") for _ in range(20)]
    until(lambda: charges() == 3)

    until(lambda: relay.once() == 0 and statuses([lost]) == ["completed"])
    assert charges() == 3
    assert statuses(slow) == ["processing"] * 20


def test_a_job_that_cannot_be_removed_lets_the_next_one_begin(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda what: what == "a1" and go_on.wait(60))
    finish = job_journal.remove

    def broken(job: job_journal.Job) -> bool:
        if job.args["what"] == "1":
            raise ValueError("broken")
        return finish(job)

    monkeypatch.setattr(job_journal, "remove", broken)
    first, second = enqueued("a", "1"), enqueued("a", "2")
    thread = in_a_thread(first)
    until(lambda: seen == ["a1"])
    call(str(second))
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2"]
    assert row(first).error == "ValueError: broken"
