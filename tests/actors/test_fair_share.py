"""One customer's payments that take long keep no other's waiting, nor what is not known from being asked."""

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
doing: Callable[[str], object] = print


@external_job("test_fair_share.call", queue="shared", share="customer")
def call(customer: str, what: str) -> None:
    seen.append(f"{customer}{what}")
    doing(f"{customer}{what}")


@pytest.fixture(autouse=True)
def committed(stores, valkey_server, monkeypatch) -> Iterator[None]:
    """Data that is really committed, and cleaned up; and shares of one thread, in which nothing waits."""
    seen.clear()
    broker.configure(valkey_server.url, timeout=5).client.flushdb()
    monkeypatch.setattr(fair_share, "_all", [])
    for verb in (call, payment_jobs.charge):
        monkeypatch.setattr(verb, "shares", fair_share.FairShares())
    call.shares.limit = 1
    yield
    broker.configure(valkey_server.url, timeout=5).client.flushdb()
    makers.wipe()


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    """Set, it lets everything that takes long come to its end."""
    event = threading.Event()
    yield event
    event.set()


def enqueued(customer: str, what: str) -> UUID:
    task = call.job(customer, what)
    with postgres.connection(), transaction():
        enqueue(task)
    return task.id


def row(id: UUID) -> job_journal.JobRow:
    with postgres.connection():
        found: job_journal.JobRow = job_journal.JobRow.get_by_id(id)
        return found


def in_a_thread(id: UUID) -> threading.Thread:
    thread = threading.Thread(target=call, args=(str(id),))
    thread.start()
    return thread


def test_what_is_above_a_share_waits_for_its_own_and_keeps_nobody_waiting(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "doing", lambda what: what == "a1" and go_on.wait(60))
    first, *others = [enqueued("a", str(n)) for n in (1, 2, 3)]
    thread = in_a_thread(first)
    until(lambda: seen == ["a1"])
    # Set aside: these come back at once, and the other customer is served.
    for id in others:
        call(str(id))
    call(str(enqueued("b", "1")))
    assert seen == ["a1", "b1"]

    # It is in nobody's hands, no attempt, and not sent again as long as this process says so.
    waits = row(others[0])
    assert (waits.leased_until, waits.attempts, waits.error) == (None, 0, None)
    job_leases.renew()
    # It was put off a moment ago: it is not written anew.
    assert row(others[0]).due_at == waits.due_at
    with postgres.connection():
        job_journal.JobRow.update(due_at=waits.created_at).where(job_journal.JobRow.id == others[0]).execute()
    job_leases.renew()
    assert row(others[0]).due_at >= waits.due_at
    assert relay.once() == 0

    go_on.set()
    thread.join(20)
    assert seen == ["a1", "b1", "a2", "a3"]
    with postgres.connection():
        assert job_journal.JobRow.select().count() == 0


def test_a_heartbeat_at_the_same_moment_leaves_no_lease_on_what_is_set_aside(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "doing", lambda _what: go_on.wait(60))
    thread = in_a_thread(enqueued("a", "1"))
    until(lambda: seen == ["a1"])
    second, has_room = enqueued("a", "2"), call.shares.has_room

    def beat() -> bool:
        # The job is in hand, and not yet set aside.
        job_leases.renew()
        return has_room()

    monkeypatch.setattr(call.shares, "has_room", beat)
    call(str(second))
    assert row(second).leased_until is None
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2"]


def test_a_message_that_comes_twice_waits_once(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "doing", lambda _what: go_on.wait(60))
    thread = in_a_thread(enqueued("a", "1"))
    until(lambda: seen == ["a1"])
    second = enqueued("a", "2")
    call(str(second))
    call(str(second))
    assert call.shares.waiting_ids() == [second]
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2"]


def test_a_job_that_fails_lets_the_next_one_begin(monkeypatch, go_on):
    def fail(what: str) -> None:
        go_on.wait(60)
        if what != "a3":
            raise ConnectionError(what)

    monkeypatch.setitem(globals(), "doing", fail)
    ids = [enqueued("a", str(n)) for n in (1, 2, 3)]
    thread = in_a_thread(ids[0])
    until(lambda: seen == ["a1"])
    for id in ids[1:]:
        call(str(id))
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2", "a3"]
    assert [row(id).error for id in ids[:2]] == ["ConnectionError: a1", "ConnectionError: a2"]


def test_more_than_may_wait_is_sent_again_later_and_that_is_no_attempt(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "doing", lambda _what: go_on.wait(60))
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


def test_a_process_that_ends_leaves_what_it_set_aside_to_others(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "doing", lambda _what: go_on.wait(60))
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
    """Real workers of Dramatiq's, for the life of a payment."""
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


def orders() -> int:
    """How often the PSP was asked for money."""
    with postgres.connection():
        found = postgres.rows("SELECT count(*) AS n FROM payments.psp_attempts WHERE operation = 'charge'")
        return int(found[0]["n"])


def test_eighty_slow_payments_of_one_customer_keep_no_other_waiting(serve, go_on):
    """Not a question of time: none of the eighty comes to its end before the other's payment does."""
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
    assert orders() == 3

    go_on.set()
    until(lambda: statuses(slow) == ["completed"] * 80)
    assert orders() == 81


def test_what_is_not_known_is_asked_while_all_others_wait_for_the_psp(serve, go_on):
    def sleep(seconds: float) -> None:
        # Who plays `slow` waits for three seconds, an answer that is lost is given up after one.
        if seconds > 2:
            go_on.wait(120)

    provider.choose(Stub(payment_jobs.receive_notice, sleep=sleep))
    serve("payments", 4)
    serve("psp", 2)
    serve("psp-questions", 1)
    lost = paid(customer(), simulate="timeout")
    until(lambda: statuses([lost]) == ["processing"] and orders() == 1)
    slow = [paid(customer(), simulate="slow") for _ in range(20)]
    until(lambda: orders() == 3)

    until(lambda: relay.once() == 0 and statuses([lost]) == ["completed"])
    assert orders() == 3
    assert statuses(slow) == ["processing"] * 20


def test_a_job_that_cannot_be_finished_lets_the_next_one_begin(monkeypatch, go_on):
    monkeypatch.setitem(globals(), "doing", lambda what: what == "a1" and go_on.wait(60))
    finish = job_journal.remove

    def broken(task: job_journal.Job) -> bool:
        if task.args["what"] == "1":
            raise ValueError("broken")
        return finish(task)

    monkeypatch.setattr(job_journal, "remove", broken)
    first, second = enqueued("a", "1"), enqueued("a", "2")
    thread = in_a_thread(first)
    until(lambda: seen == ["a1"])
    call(str(second))
    go_on.set()
    thread.join(20)
    assert seen == ["a1", "a2"]
    assert row(first).error == "ValueError: broken"
