"""External batch jobs: leased together, called each in a thread of its own, recorded together."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import peewee
import pytest

from actors import broker, queue_state
from actors.batch_jobs import BatchEntry
from actors.external_jobs import ExternalBatchJob
from actors.jobs import enqueue, transaction, transactional_job
from actors.worker_threads import CallThreads
from db import leased_jobs, postgres
from db.core import request_context
from db.core.errors import DomainError, ErrorCode
from db.core.request_context import RequestContext
from tests import makers
from tests.makers import until
from tests.tables import JobRow

prepared: list[list[str]] = []
called: list[str] = []
recorded: list[list[str]] = []
during_call: Callable[[str], object] = str
during_record: Callable[[], object] = list


class Order(BatchEntry):
    what: str


class Refused(DomainError):
    """No such order."""

    code = ErrorCode.NOT_FOUND


@transactional_job("test_external_batch_jobs.learn", queue="orders")
def learn(fact: str) -> None:
    """Nothing."""


def prepare(orders: Sequence[Order]) -> list[str | None]:
    prepared.append([order.what for order in orders])
    if any(order.what == "poison" for order in orders):
        raise ValueError("poison")
    if any(order.what == "refused" for order in orders):
        raise Refused
    return [None if order.what == "nothing" else order.what for order in orders]


def call(what: str) -> str:
    called.append(what)
    during_call(what)
    return f"{what}!"


def record(results: Sequence[tuple[str, str]]) -> None:
    during_record()
    if any(what == "unrecordable" for what, _result in results):
        raise ValueError("unrecordable")
    recorded.append([result for _what, result in results])
    for what, result in results:
        if what != "silent":
            enqueue(learn.job(result))


order = ExternalBatchJob(
    "test_external_batch_jobs.order", Order, queue="orders", prepare=prepare, call=call, record=record
)


@pytest.fixture(autouse=True)
def committed(stores) -> Iterator[None]:
    """Committed data, deleted after the test."""
    for seen in (prepared, called, recorded):
        seen.clear()
    broker.current().client.flushdb()
    yield
    makers.wipe()


@pytest.fixture
def threads(monkeypatch) -> CallThreads:
    threads = CallThreads(4)
    monkeypatch.setattr(order, "_threads", threads)
    return threads


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    """An event that ends all slow calls."""
    event = threading.Event()
    yield event
    event.set()


def enqueued(*whats: str) -> list[UUID]:
    jobs = [order.job(Order(what=what)) for what in whats]
    with postgres.connection(), transaction():
        for job in jobs:
            enqueue(job)
    return [job.id for job in jobs]


def rows(name: str = order.name) -> dict[UUID, JobRow]:
    with postgres.connection():
        return {row.id: row for row in JobRow.select() if row.name == name}


def facts() -> list[str]:
    """What was enqueued by `record`."""
    return sorted(row.args["fact"] for row in rows(learn.name).values())


def test_one_message_does_all_jobs_of_the_name():
    ids = enqueued("a", "b", "c")
    order(str(ids[0]))
    assert prepared == [["a", "b", "c"]]
    assert recorded == [["a!", "b!", "c!"]]
    assert facts() == ["a!", "b!", "c!"]
    assert rows() == {}


def test_a_test_performs_one_job_in_its_own_transaction(database):
    ids = enqueued("a", "b")
    order.perform(ids[1])
    assert called == ["b"]
    assert list(rows()) == [ids[0]]


def test_a_job_with_nothing_to_call_is_removed():
    [id, _other] = enqueued("nothing", "b")
    order(str(id))
    assert (called, facts(), rows()) == (["b"], ["b!"], {})


def test_a_job_that_cannot_be_prepared_does_not_stop_the_others():
    [id, poison, _other] = enqueued("a", "poison", "c")
    order(str(id))
    assert facts() == ["a!", "c!"]
    assert {id: row.error for id, row in rows().items()} == {poison: "ValueError: poison"}


def test_a_job_that_is_refused_while_it_is_prepared_is_removed():
    [id, _refused] = enqueued("a", "refused")
    order(str(id))
    assert (facts(), rows()) == (["a!"], {})


def test_a_call_that_fails_is_recorded_in_its_job_and_retried_later(monkeypatch):
    def fail(what: str) -> None:
        if what == "b":
            raise ConnectionError("nobody answers")

    monkeypatch.setitem(globals(), "during_call", fail)
    [id, failed] = enqueued("a", "b")
    order(str(id))
    assert facts() == ["a!"]
    [row] = rows().values()
    assert (row.id, row.error, row.leased_until) == (failed, "ConnectionError: nobody answers", None)
    order(str(id))
    assert called == ["a", "b"]


def test_a_result_that_cannot_be_recorded_does_not_stop_the_others():
    [id, fault, _other] = enqueued("a", "unrecordable", "c")
    order(str(id))
    assert facts() == ["a!", "c!"]
    assert {id: row.error for id, row in rows().items()} == {fault: "ValueError: unrecordable"}


def test_results_that_come_while_another_is_recorded_are_recorded_together(monkeypatch, threads):
    """One transaction records what is there, and leases what is next."""
    first_is_recorded = threading.Event()

    def let_the_others_end() -> None:
        if not first_is_recorded.is_set():
            first_is_recorded.set()
            until(lambda: len(order._finished) == 3)

    monkeypatch.setitem(globals(), "during_call", lambda what: what == "a" or first_is_recorded.wait(60))
    monkeypatch.setitem(globals(), "during_record", let_the_others_end)
    ids = enqueued("a", "b", "c", "d", "e")
    order(str(ids[0]))
    until(lambda: rows() == {})
    assert [len(results) for results in recorded] == [1, 3, 1]
    assert prepared == [["a", "b", "c", "d"], ["e"]]
    assert threads.join(60)


def test_each_call_has_a_thread_and_no_transaction(monkeypatch, threads):
    together = threading.Barrier(4)

    def call_together(_what: str) -> None:
        assert postgres.database.is_closed()
        together.wait(60)

    monkeypatch.setitem(globals(), "during_call", call_together)
    ids = enqueued(*"abcdefgh")
    order(str(ids[0]))
    until(lambda: rows() == {})
    assert facts() == [f"{what}!" for what in "abcdefgh"]
    assert threads.join(60)


def test_a_job_that_comes_while_all_threads_call_is_begun_when_one_has_ended(monkeypatch, threads, go_on):
    monkeypatch.setitem(globals(), "during_call", lambda what: what in "abcd" and go_on.wait(60))
    ids = enqueued(*"abcd")
    order(str(ids[0]))
    until(lambda: len(called) == 4)
    order(str(*enqueued("e")))
    assert len(called) == 4
    go_on.set()
    until(lambda: rows() == {})
    assert "e!" in facts()
    assert threads.join(60)


@pytest.mark.parametrize(
    "error", [postgres.DatabaseUnavailable("away"), peewee.OperationalError("lock timeout")]
)
def test_a_result_is_kept_until_the_database_takes_it(monkeypatch, threads, error):
    fails = 3

    def fail() -> None:
        nonlocal fails
        fails -= 1
        if fails >= 0:
            raise error

    monkeypatch.setitem(globals(), "during_record", fail)
    monkeypatch.setattr("actors.external_calls._PAUSE_S", 0.01)
    [id] = enqueued("a")
    order(str(id))
    until(lambda: rows() == {})
    assert (called, facts()) == (["a"], ["a!"])
    assert threads.join(60)


def test_a_result_is_kept_while_no_job_can_be_leased_either(monkeypatch, threads):
    """As where another session locks the journal: nothing is recorded, nor leased, nor even read."""
    attempts = ["alone", "together"]
    locked = pytest.MonkeyPatch()

    def time_out(*_args: object) -> None:
        raise peewee.OperationalError("lock timeout")

    def lock_the_journal(_what: str) -> None:
        locked.setattr(leased_jobs, "lease_first", time_out)
        locked.setattr(leased_jobs, "leasable_ids", time_out)

    def time_out_twice() -> None:
        if attempts:
            attempts.pop()
            time_out()
        locked.undo()

    monkeypatch.setitem(globals(), "during_call", lock_the_journal)
    monkeypatch.setitem(globals(), "during_record", time_out_twice)
    monkeypatch.setattr("actors.external_calls._PAUSE_S", 0.01)
    [id] = enqueued("a")
    order(str(id))
    until(lambda: rows() == {})
    assert (called, facts()) == (["a"], ["a!"])
    assert threads.join(60)


def test_calls_follow_the_request_that_caused_them(monkeypatch):
    seen: list[str | None] = []
    monkeypatch.setitem(
        globals(), "during_call", lambda _what: seen.append(request_context.current().request_id)
    )
    for request_id in ("request-1", "request-2"):
        with request_context.acting_as(RequestContext(request_id)):
            [id] = enqueued("a")
    order(str(id))
    assert seen == ["request-1", "request-2"]


def test_a_leased_job_is_left_to_its_worker():
    [id] = enqueued("a")
    with postgres.connection():
        assert leased_jobs.lease(id, 60).jobs
    order(str(id))
    assert called == []


def test_a_job_with_nothing_to_call_is_counted_when_its_removal_is_committed(monkeypatch):
    @contextmanager
    def rolled_back() -> Iterator[None]:
        with transaction():
            yield
            raise postgres.DatabaseUnavailable

    monkeypatch.setattr("actors.external_calls._PAUSE_S", 0)
    queue_state._finished.clear()
    [id] = enqueued("nothing")
    with monkeypatch.context() as broken:
        broken.setattr("actors.external_calls.transaction", rolled_back)
        order(str(id))
    assert (list(rows()), queue_state._finished.total()) == ([id], 0)
    order(str(id))
    assert (rows(), queue_state._finished.total()) == ({}, 1)
