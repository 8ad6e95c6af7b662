"""Jobs on committed data with two connections, in threads."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from falcon.testing import TestClient

from actors import broker, payment_jobs, payment_reconciliation
from actors.batch_jobs import BatchEntry, batch_job
from actors.external_jobs import external_job
from actors.jobs import enqueue, transaction, transactional_job
from actors.psp.provider import Answer, Outcome
from api.app import create_app
from db import idempotency, job_claims, job_journal, payments, postgres
from db.users import Role
from tests import makers
from tests.tables import JobRow
from workers import scheduler

seen: list[Any] = []


class Number(BatchEntry):
    number: int


@transactional_job("test_jobs_in_parallel.nod", queue="together")
def nod() -> None:
    seen.append("nod")


@batch_job("test_jobs_in_parallel.count", Number, queue="together", ordered=True)
def count(numbers: Sequence[Number]) -> None:
    seen.extend(entry.number for entry in numbers)


@batch_job("test_jobs_in_parallel.add", Number, queue="together")
def add(numbers: Sequence[Number]) -> None:
    meanwhile()
    seen.append([entry.number for entry in numbers])


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
    """Committed data, deleted after the test."""
    seen.clear()
    yield
    makers.wipe()


@contextmanager
def in_another_transaction(statement: Callable[[], Any]) -> Iterator[None]:
    """Runs this in a transaction of another connection, which commits when the block ends."""
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connection(), postgres.database.atomic():
            statement()
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


def enqueued(*enqueued_jobs: job_journal.Job) -> list[job_journal.Job]:
    with postgres.connection(), transaction():
        for job in enqueued_jobs:
            enqueue(job)
    return list(enqueued_jobs)


def waiting() -> int:
    with postgres.connection():
        return JobRow.select().count()


def a_lock_is_awaited() -> bool:
    return bool(postgres.rows("SELECT FROM pg_locks WHERE NOT granted"))


@contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Yields a function that runs this in a thread until it waits for a lock; joins it after the block."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)

    def start() -> None:
        thread.start()
        makers.until(lambda: a_lock_is_awaited() or not thread.is_alive())

    yield start
    thread.join(20)
    assert failed == []


def jobs() -> list[tuple[str, str | None]]:
    with postgres.connection():
        return [(row.name, row.error) for row in JobRow.select()]


def test_two_jobs_that_enqueue_each_other_do_not_deadlock(monkeypatch):
    asking, deciding = enqueued(ask.job().unique("of one payment"), decide.job().unique("of one payment"))
    with in_thread(lambda: ask(str(asking.id))) as start:
        monkeypatch.setitem(globals(), "meanwhile", start)
        decide(str(deciding.id))
    # `decide` is enqueued again by `ask`, and nothing failed.
    assert jobs() == [("test_jobs_in_parallel.decide", None)]


def test_a_periodic_job_that_runs_does_not_deadlock_with_the_scheduler(monkeypatch):
    leader = scheduler.Leader()
    leader.check()
    scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)
    with in_thread(lambda: scheduler.enqueue_scheduled(payment_reconciliation.reconcile, leader)) as start:
        monkeypatch.setattr(payment_reconciliation.reconcile, "_call", lambda _task: start())
        payment_reconciliation.reconcile(str(payment_reconciliation.reconcile.scheduled().id))
    assert jobs() == [("payments.reconcile", None)]


def test_a_job_claimed_by_another_worker_is_left_to_it():
    [job] = enqueued(nod.job())
    with in_another_transaction(lambda: job_claims.claim(job.id)):
        nod(str(job.id))
        assert seen == []
    # The other transaction committed, and removed it.
    assert waiting() == 0


def test_an_external_job_holds_no_connection_during_its_call():
    [job] = enqueued(look.job())
    look(str(job.id))
    assert seen == [True]
    assert waiting() == 0


def test_one_process_does_a_batch_job_and_no_other_waits_for_it():
    [job] = enqueued(count.job(Number(id=uuid4(), number=1)))
    with in_another_transaction(lambda: postgres.try_advisory_lock(count.name)):
        count(str(job.id))
        assert seen == []
    count(str(job.id))
    assert seen == [1]


def test_an_entry_enqueued_during_a_batch_is_done_by_the_same_process(monkeypatch):
    [first] = enqueued(count.job(Number(id=uuid4(), number=1)))
    write = count._write

    def write_and_meanwhile(enqueued_jobs: Sequence[job_journal.Job]) -> None:
        write(enqueued_jobs)
        if len(seen) == 1:
            # Another process enqueues an entry, finds the lock taken, and leaves.
            def other() -> None:
                [second] = enqueued(count.job(Number(id=uuid4(), number=2)))
                count(str(second.id))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join(20)

    monkeypatch.setattr(count, "_write", write_and_meanwhile)
    count(str(first.id))
    assert seen == [1, 2]
    assert waiting() == 0


def test_two_processes_share_the_entries_of_a_batch_job():
    [first, _second] = enqueued(add.job(Number(number=1)), add.job(Number(number=2)))
    with in_another_transaction(lambda: job_claims.claim(first.id)):
        add(str(first.id))
        assert seen == [[2]]
    assert waiting() == 0


def test_one_thread_of_a_process_does_the_entries_that_come_meanwhile(monkeypatch):
    [first] = enqueued(add.job(Number(number=1)))
    come: list[int] = [2, 3]

    def another_comes() -> None:
        [job] = enqueued(add.job(Number(number=come.pop(0))))
        add(str(job.id))
        assert seen == []

    def others_come() -> None:
        while come:
            thread = threading.Thread(target=another_comes)
            thread.start()
            thread.join(20)

    monkeypatch.setitem(globals(), "meanwhile", others_come)
    add(str(first.id))
    assert seen == [[1], [2, 3]]


def test_an_entry_that_sends_no_message_because_a_batch_is_under_way_is_done_after_it(monkeypatch):
    broker.current().client.flushdb()
    [first] = enqueued(add.job(Number(number=1)))
    come: list[int] = [2]

    def another_comes() -> None:
        while come:
            thread = threading.Thread(target=enqueued, args=(add.job(Number(number=come.pop())),))
            thread.start()
            thread.join(20)

    monkeypatch.setitem(globals(), "meanwhile", another_comes)
    add(str(first.id))
    assert seen == [[1], [2]]
    assert broker.current().client.llen("dramatiq:together") == 1


def test_entries_keep_their_order_while_the_relay_has_locked_one():
    enqueued_jobs = enqueued(*[count.job(Number(id=uuid4(), number=n)) for n in range(3)])
    locked = "SELECT id FROM journal.jobs WHERE id = %s FOR UPDATE"
    with in_another_transaction(lambda: postgres.rows(locked, enqueued_jobs[0].id)):
        worker = threading.Thread(target=count, args=(str(enqueued_jobs[1].id),))
        worker.start()
        worker.join(0.3)
        assert seen == []
    worker.join(20)
    assert seen == [0, 1, 2]


def test_committed_jobs_are_sent_at_once():
    broker.current().client.flushdb()
    enqueued_jobs = enqueued(nod.job(), nod.job(), count.job(Number(id=uuid4(), number=1)))
    consumer = broker.current().consume("together", prefetch=10, timeout=1)
    sent = []
    while message := next(consumer):
        sent.append(message.message_id)
        consumer.ack(message)
    assert sent == [str(job.id) for job in enqueued_jobs]


def test_while_a_wake_up_waits_no_second_one_is_sent():
    broker.current().client.flushdb()

    def entry() -> job_journal.Job:
        return count.job(Number(id=uuid4(), number=1))

    def length() -> int:
        return broker.current().client.llen("dramatiq:together")

    enqueued(entry())
    enqueued(entry(), entry())
    assert length() == 1
    count(str(uuid4()))
    assert seen == [1, 1, 1]
    enqueued(entry())
    assert length() == 2


def test_a_payment_settled_by_four_workers_at_once_completes_once():
    with postgres.connection():
        customer = makers.user(Role.CUSTOMER)
        payment = makers.payment(customer)
        for row in list(JobRow.select().where(JobRow.name == "payments.begin")):
            payment_jobs.begin.perform(row.id)
    enqueued_jobs = enqueued(*[makers.settle_job(payment, Answer(Outcome.CHARGED)) for _ in range(4)])
    threads = [threading.Thread(target=payment_jobs.settle, args=(str(job.id),)) for job in enqueued_jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    with postgres.connection():
        transitions = [moved.transaction_type for moved in payments.history(payment.id)]
    assert transitions == ["create", "begin", "complete"]


def test_a_request_that_waits_too_long_for_an_idempotency_key_gets_409(settings):
    client = TestClient(create_app(settings))
    me = makers.visitor(client)
    columns = {"user_id": UUID(me.user["id"]), "key": "order-1", "request_hash": "of another process"}
    with in_another_transaction(lambda: idempotency.IdempotencyKey.insert(**columns).execute()):
        result = me.post(
            "/payments", {"type": "payment", "amount": 1}, headers={"Idempotency-Key": "order-1"}
        )
    assert makers.error(result) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert result.headers["Retry-After"] == "1"
