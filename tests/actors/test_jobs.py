"""Promises, and the three ways they are kept."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from actors import jobs
from actors.jobs import BatchEntry, batch_job, enqueue, external_job, transaction, transactional_job
from db import job_journal, postgres, redelivery
from db.core import request_context
from db.core.errors import DomainError, ErrorCode
from tests.makers import work

seen: list[object] = []


class NotToday(DomainError):
    """Not today."""

    code = ErrorCode.INVALID_TRANSITION


class Word(BatchEntry):
    text: str


@transactional_job("test_jobs.add", queue="test")
def add(number: int) -> None:
    seen.append(number)


@transactional_job("test_jobs.add_then_fail", queue="test")
def add_then_fail(fault: str) -> None:
    enqueue(add.job(1))
    raise NotToday if fault == "law" else ZeroDivisionError(fault)


@external_job("test_jobs.ask", queue="test")
def ask(question: str) -> job_journal.Job | None:
    seen.append((question, request_context.current().request_id))
    return add.job(42)


@external_job("test_jobs.look", queue="test")
def look() -> None:
    seen.append(postgres.database.is_closed())


@external_job("test_jobs.ask_in_vain", queue="test")
def ask_in_vain() -> job_journal.Job | None:
    raise ConnectionError("nobody answers")


@batch_job("test_jobs.spell", Word, queue="test")
def spell(words: Sequence[Word]) -> None:
    if any(word.text == "poison" for word in words):
        raise ValueError("poison")
    seen.append([word.text for word in words])


@pytest.fixture(autouse=True)
def nothing_seen(database):
    seen.clear()


def promised(*tasks: job_journal.Job) -> list[UUID]:
    with transaction():
        for task in tasks:
            enqueue(task)
    return [task.id for task in tasks]


def row(id: UUID) -> job_journal.JobRow | None:
    return job_journal.JobRow.get_or_none(job_journal.JobRow.id == id)


def test_a_promise_outside_a_transaction_is_refused():
    with pytest.raises(RuntimeError, match="outside a transaction"):
        enqueue(add.job(1))


def test_a_promise_is_forgotten_with_its_transaction():
    with pytest.raises(ZeroDivisionError), transaction():
        enqueue(add.job(1))
        raise ZeroDivisionError
    assert work() == []


def test_a_message_delivered_twice_is_done_once():
    [id] = promised(add.job(7))
    add(str(id))
    add(str(id))
    assert seen == [7]


def test_what_the_law_refuses_is_done_with_and_leaves_nothing():
    [id] = promised(add_then_fail.job("law"))
    add_then_fail(str(id))
    assert row(id) is None
    assert work() == []


def test_a_fault_undoes_everything_but_the_promise():
    [id] = promised(add_then_fail.job("broken"))
    add_then_fail(str(id))
    kept = row(id)
    assert kept is not None
    assert (kept.error, kept.attempts, kept.leased_until) == ("ZeroDivisionError: broken", 0, None)
    assert job_journal.JobRow.select().count() == 1


def test_what_an_effect_learned_is_promised_when_it_is_done():
    request_context.bind(request_context.RequestContext("request-1"))
    promised(ask.job("how much?"))
    assert work() == ["test_jobs.ask", "test_jobs.add"]
    assert seen == [("how much?", "request-1"), 42]


def test_an_effect_in_hand_is_not_begun_again():
    [id] = promised(ask.job("?"))
    assert job_journal.lease(id, 60) is not None
    ask(str(id))
    assert seen == []


def test_an_effect_whose_lease_ran_out_is_begun_again():
    [id] = promised(ask.job("?"))
    job_journal.lease(id, 0)
    ask(str(id))
    assert len(seen) == 1


def test_an_effect_that_failed_is_put_off():
    [id] = promised(ask_in_vain.job())
    ask_in_vain(str(id))
    kept = row(id)
    assert kept is not None
    assert kept.error == "ConnectionError: nobody answers"
    assert kept.leased_until is None


def test_one_wake_up_does_all_of_a_kind_in_their_order():
    ids = promised(*[spell.job(Word(id=uuid4(), text=text)) for text in ("a", "b", "c")])
    spell(str(ids[2]))
    assert seen == [["a", "b", "c"]]
    assert work() == []


def test_a_bad_entry_does_not_hold_up_the_good_ones():
    ids = promised(*[spell.job(Word(id=uuid4(), text=text)) for text in ("a", "poison", "c")])
    spell(str(ids[0]))
    assert seen == [["a"], ["c"]]
    kept = row(ids[1])
    assert kept is not None
    assert kept.error == "ValueError: poison"


def test_many_entries_of_a_kind_need_one_message():
    tasks = [spell.job(Word(id=uuid4(), text="x")) for _ in range(3)]
    other = [add.job(1), add.job(2)]
    assert jobs.to_send([*tasks, *other]) == [tasks[0], *other]


def test_an_entry_promised_twice_is_written_once():
    task = spell.job(Word(id=uuid4(), text="once"))
    promised(task)
    promised(task)
    work()
    assert seen == [["once"]]


def test_who_lost_his_lease_does_not_put_off_who_has_it():
    [id] = promised(ask_in_vain.job())
    stale = job_journal.lease(id, 0)
    redelivery.resend("test", None, 10)
    assert stale is not None
    assert job_journal.lease(id, 60) is not None
    ask_in_vain._record_failure(id, ConnectionError("late"), attempts=stale.attempts)
    kept = row(id)
    assert kept is not None
    assert kept.error is None
    assert kept.leased_until is not None


def test_a_promise_under_a_key_is_in_the_journal_once():
    promised(add.job(1).unique("monday"))
    promised(add.job(1).unique("monday"), add.job(1).unique("tuesday"))
    assert work() == ["test_jobs.add", "test_jobs.add"]
