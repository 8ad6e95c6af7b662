"""What only two connections can show: committed data, and threads that meet on it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from falcon.testing import TestClient

from actors import broker, payment_jobs, payment_reconciliation
from actors.jobs import BatchEntry, batch_job, enqueue, external_job, transaction, transactional_job
from actors.psp.provider import Outcome
from api.app import create_app
from db import idempotency, job_journal, payments, postgres
from db.users import Role
from tests import makers
from workers import scheduler

seen: list[Any] = []


class Number(BatchEntry):
    number: int


@transactional_job("test_jobs_in_parallel.nod", queue="together")
def nod() -> None:
    seen.append("nod")


@batch_job("test_jobs_in_parallel.count", Number, queue="together")
def count(numbers: Sequence[Number]) -> None:
    seen.extend(entry.number for entry in numbers)


@external_job("test_jobs_in_parallel.look", queue="together")
def look() -> None:
    seen.append(postgres.database.is_closed())


meanwhile: Callable[[], object] = list


@external_job("test_jobs_in_parallel.ask", queue="together")
def ask() -> job_journal.Job:
    return decide.job().unique("of one payment")


@transactional_job("test_jobs_in_parallel.decide", queue="together")
def decide() -> None:
    meanwhile()
    enqueue(ask.job().unique("of one payment"))


@pytest.fixture(autouse=True)
def committed(stores) -> Iterator[None]:
    """Data that is really committed, and cleaned up."""
    seen.clear()
    yield
    makers.wipe()


@contextmanager
def elsewhere(holding: Callable[[], Any]) -> Iterator[None]:
    """Another connection, in a transaction that has done this and is not committed before the block ends."""
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connection(), postgres.database.atomic():
            holding()
            begun.set()
            end.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(20)
    try:
        yield
    finally:
        end.set()
        thread.join(20)


def promised(*tasks: job_journal.Job) -> list[job_journal.Job]:
    with postgres.connection(), transaction():
        for task in tasks:
            enqueue(task)
    return list(tasks)


def waiting() -> int:
    with postgres.connection():
        return job_journal.JobRow.select().count()


def somebody_waits_for_a_lock() -> bool:
    return bool(postgres.rows("SELECT FROM pg_locks WHERE NOT granted"))


@contextmanager
def beside(do: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Lets a thread begin with `do` and waits until that waits for a lock; it ends with the block."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)

    def start() -> None:
        thread.start()
        makers.until(lambda: somebody_waits_for_a_lock() or not thread.is_alive())

    yield start
    thread.join(20)
    assert failed == []


def jobs() -> list[tuple[str, str | None]]:
    with postgres.connection():
        return [(row.name, row.error) for row in job_journal.JobRow.select()]


def test_two_jobs_that_enqueue_one_another_do_not_wait_crosswise(monkeypatch):
    asking, deciding = promised(ask.job().unique("of one payment"), decide.job().unique("of one payment"))
    with beside(lambda: ask(str(asking.id))) as start:
        monkeypatch.setitem(globals(), "meanwhile", start)
        decide(str(deciding.id))
    # It is decided anew, after what was asked meanwhile; nothing failed.
    assert jobs() == [("test_jobs_in_parallel.decide", None)]


def test_a_job_that_runs_at_its_next_time_does_not_wait_crosswise_with_the_scheduler(monkeypatch):
    leader = scheduler.Leader()
    leader.check()
    scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    with beside(lambda: scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)) as start:
        monkeypatch.setattr(payment_reconciliation.reconcile, "_call", lambda _task: start())
        payment_reconciliation.reconcile(str(payment_reconciliation.reconcile.scheduled().id))
    assert jobs() == [("payments.reconcile", None)]


def test_a_promise_in_anothers_hands_is_left_to_it():
    [task] = promised(nod.job())
    with elsewhere(lambda: job_journal.claim(task.id)):
        nod(str(task.id))
        assert seen == []
    # It was committed there: done, and not by us.
    assert waiting() == 0


def test_no_connection_is_held_while_an_effect_touches_the_world():
    [task] = promised(look.job())
    look(str(task.id))
    assert seen == [True]
    assert waiting() == 0


def test_one_at_a_time_drains_and_nobody_waits_for_it():
    [task] = promised(count.job(Number(id=uuid4(), number=1)))
    with elsewhere(lambda: postgres.try_advisory_lock(count.name)):
        count(str(task.id))
        assert seen == []
    count(str(task.id))
    assert seen == [1]


def test_what_is_promised_while_another_drains_is_drained_by_it(monkeypatch):
    [first] = promised(count.job(Number(id=uuid4(), number=1)))
    write = count._write

    def and_meanwhile(tasks: Sequence[job_journal.Job]) -> None:
        write(tasks)
        if len(seen) == 1:
            # Another process promises, wakes up, finds the lock taken and leaves.
            def other() -> None:
                [second] = promised(count.job(Number(id=uuid4(), number=2)))
                count(str(second.id))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join(20)

    monkeypatch.setattr(count, "_write", and_meanwhile)
    count(str(first.id))
    assert seen == [1, 2]
    assert waiting() == 0


def test_entries_keep_their_order_while_the_relay_holds_one_of_them():
    tasks = promised(*[count.job(Number(id=uuid4(), number=n)) for n in range(3)])
    locked = "SELECT id FROM journal.jobs WHERE id = %s FOR UPDATE"
    with elsewhere(lambda: postgres.rows(locked, tasks[0].id)):
        worker = threading.Thread(target=count, args=(str(tasks[1].id),))
        worker.start()
        worker.join(0.3)
        assert seen == []
    worker.join(20)
    assert seen == [0, 1, 2]


def test_the_fast_path_sends_what_was_committed():
    broker.current().client.flushdb()
    tasks = promised(nod.job(), nod.job(), count.job(Number(id=uuid4(), number=1)))
    consumer = broker.current().consume("together", prefetch=10, timeout=1)
    sent = []
    while message := next(consumer):
        sent.append(message.message_id)
        consumer.ack(message)
    assert sent == [str(task.id) for task in tasks]


def test_while_a_wake_up_waits_no_other_is_sent_and_then_one_is():
    broker.current().client.flushdb()

    def one() -> job_journal.Job:
        return count.job(Number(id=uuid4(), number=1))

    def length() -> int:
        return broker.current().client.llen("dramatiq:together")

    promised(one())
    promised(one(), one())
    assert length() == 1
    count(str(uuid4()))
    assert seen == [1, 1, 1]
    promised(one())
    assert length() == 2


def test_a_payment_is_settled_once_by_two_workers_at_the_same_moment():
    with postgres.connection():
        customer = makers.user(Role.CUSTOMER)
        payment = makers.payment(customer)
        for row in list(job_journal.JobRow.select().where(job_journal.JobRow.name == "payments.begin")):
            payment_jobs.begin.perform(row.id)
    tasks = promised(*[payment_jobs.settle.job(payment.id, Outcome.CHARGED, None) for _ in range(4)])
    threads = [threading.Thread(target=payment_jobs.settle, args=(str(task.id),)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    with postgres.connection():
        steps = [moved.transaction_type for moved in payments.history(payment.id)]
    assert steps == ["create", "begin", "complete"]


def test_who_waits_too_long_for_a_key_is_told_so(settings):
    client = TestClient(create_app(settings))
    me = makers.visitor(client)
    claim = partial(idempotency.claim, UUID(me.user["id"]), "order-1", "of another process")
    with elsewhere(claim):
        result = me.post(
            "/payments", {"type": "payment", "amount": 1}, headers={"Idempotency-Key": "order-1"}
        )
    assert makers.error(result) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert result.headers["Retry-After"] == "1"
