"""The three kinds of jobs: transactional, batch and external."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from actors import batch_jobs, broker
from actors.batch_jobs import BatchEntry, batch_job
from actors.external_jobs import external_job
from actors.jobs import enqueue, transaction, transactional_job
from db import job_claims, job_journal, leased_jobs, postgres
from db.core import request_context
from db.core.errors import DomainError, ErrorCode
from tests.makers import work
from tests.tables import JobRow

seen: list[object] = []


class NotToday(DomainError, code=ErrorCode.INVALID_TRANSITION):
    """Not today."""


class Word(BatchEntry):
    text: str


@transactional_job("test_jobs.add", queue="test")
def add(number: int) -> None:
    seen.append(number)


@transactional_job("test_jobs.add_then_fail", queue="test")
def add_then_fail(fault: str) -> None:
    enqueue(add.job(1))
    raise NotToday if fault == "refusal" else ZeroDivisionError(fault)


@external_job("test_jobs.ask", queue="test")
def ask(question: str) -> job_journal.Job | None:
    seen.append((question, request_context.current().request_id))
    return add.job(42)


@external_job("test_jobs.look", queue="test")
def look() -> None:
    seen.append(postgres.database.is_closed())


@external_job("test_jobs.ask_and_fail", queue="test")
def ask_and_fail() -> job_journal.Job | None:
    raise ConnectionError("nobody answers")


@batch_job("test_jobs.spell", Word, queue="test")
def spell(words: Sequence[Word]) -> None:
    if any(word.text == "poison" for word in words):
        raise ValueError("poison")
    seen.append([word.text for word in words])


@batch_job("test_jobs.spell_in_order", Word, queue="test", ordered=True)
def spell_in_order(words: Sequence[Word]) -> None:
    spell._function(words)


@batch_job("test_jobs.refuse", Word, queue="test")
def refuse(words: Sequence[Word]) -> None:
    for word in words:
        seen.append((word.text, len(words)))
        if word.text == "no":
            enqueue(add.job(1))
            raise NotToday


@pytest.fixture(autouse=True)
def clear_seen(database):
    seen.clear()


def enqueued(*entries: job_journal.Job) -> list[UUID]:
    with transaction():
        for job in entries:
            enqueue(job)
    return [job.id for job in entries]


def row(id: UUID) -> JobRow | None:
    return JobRow.get_or_none(JobRow.id == id)


def test_enqueue_outside_a_transaction_is_refused():
    with pytest.raises(RuntimeError, match="outside a transaction"):
        enqueue(add.job(1))


def test_a_job_of_a_rolled_back_transaction_does_not_exist():
    with pytest.raises(ZeroDivisionError), transaction():
        enqueue(add.job(1))
        raise ZeroDivisionError
    assert work() == []


def test_a_job_whose_message_arrives_twice_is_done_once():
    [id] = enqueued(add.job(7))
    add(str(id))
    add(str(id))
    assert seen == [7]


def test_a_refused_job_is_removed_and_changes_nothing():
    [id] = enqueued(add_then_fail.job("refusal"))
    add_then_fail(str(id))
    assert row(id) is None
    assert work() == []


def test_a_failure_rolls_everything_back_and_is_recorded_in_the_job():
    [id] = enqueued(add_then_fail.job("broken"))
    add_then_fail(str(id))
    failed = row(id)
    assert failed is not None
    assert (failed.error, failed.attempts, failed.leased_until) == ("ZeroDivisionError: broken", 0, None)
    assert JobRow.select().count() == 1


def test_the_job_that_an_external_job_returns_is_enqueued():
    request_context.bind(request_context.RequestContext("request-1"))
    enqueued(ask.job("how much?"))
    assert work() == ["test_jobs.ask", "test_jobs.add"]
    assert seen == [("how much?", "request-1"), 42]


def test_a_leased_external_job_is_not_begun_again():
    [id] = enqueued(ask.job("?"))
    assert leased_jobs.lease(id, 60).jobs
    ask(str(id))
    assert seen == []


def test_an_external_job_with_an_expired_lease_is_begun_again():
    [id] = enqueued(ask.job("?"))
    leased_jobs.lease(id, 0)
    ask(str(id))
    assert len(seen) == 1


def test_an_external_job_that_failed_is_postponed():
    [id] = enqueued(ask_and_fail.job())
    ask_and_fail(str(id))
    failed = row(id)
    assert failed is not None
    assert failed.error == "ConnectionError: nobody answers"
    assert failed.leased_until is None


@pytest.mark.parametrize("kind", [spell, spell_in_order])
def test_one_message_does_all_entries_of_a_batch_job_in_order(kind):
    ids = enqueued(*[kind.job(Word(text=text)) for text in ("a", "b", "c")])
    kind(str(ids[2]))
    assert seen == [["a", "b", "c"]]
    assert work() == []


@pytest.mark.parametrize("kind", [spell, spell_in_order])
def test_a_failing_entry_does_not_stop_the_others(kind):
    ids = enqueued(*[kind.job(Word(text=text)) for text in ("a", "poison", "c")])
    kind(str(ids[0]))
    assert seen == [["a"], ["c"]]
    failed = row(ids[1])
    assert failed is not None
    assert failed.error == "ValueError: poison"


def test_an_entry_that_failed_is_done_when_a_message_of_its_own_requests_it():
    [first, second] = enqueued(*[spell.job(Word(text=text)) for text in ("a", "b")])
    JobRow.update(error="it broke").where(JobRow.id == first).execute()
    spell(str(second))
    assert seen == [["b"]]
    spell(str(first))
    assert seen == [["b"], ["a"]]


def test_a_refused_entry_is_removed_and_the_others_are_done():
    ids = enqueued(*[refuse.job(Word(text=text)) for text in ("yes", "no")])
    refuse(str(ids[0]))
    assert seen == [("yes", 2), ("no", 2), ("yes", 1), ("no", 1)]
    assert JobRow.select().count() == 0


def test_more_entries_than_a_batch_are_done_by_one_message(monkeypatch):
    monkeypatch.setattr(batch_jobs, "BATCH_SIZE", 2)
    ids = enqueued(*[spell.job(Word(text=text)) for text in ("a", "b", "c", "d", "e")])
    spell(str(ids[0]))
    assert seen == [["a", "b"], ["c", "d"], ["e"]]


def test_a_delayed_entry_is_left_out_of_batches():
    ids = enqueued(spell.job(Word(text="later")).delayed(60), spell.job(Word(text="now")))
    spell(str(ids[1]))
    assert seen == [["now"]]
    assert row(ids[0]) is not None


def test_an_entry_knows_its_job_and_the_request_that_caused_it():
    request_context.bind(request_context.RequestContext("request-1"))
    job = spell.job(Word(text="a")).unique("once")
    request_context.bind(request_context.EMPTY)
    enqueued(job)
    [word] = [batch_jobs.entry_of(found, Word) for found in job_claims.claim_first(spell.name, 10)]
    assert (word.id, word.request_id, word.text) == (job.id, "request-1", "a")


def test_a_test_performs_one_entry():
    ids = enqueued(*[spell.job(Word(text=text)) for text in ("a", "b")])
    spell.perform(ids[1])
    assert seen == [["b"]]


def test_a_batch_job_needs_one_message_for_all_its_entries():
    entries = [spell.job(Word(id=uuid4(), text="x")) for _ in range(3)]
    other = [add.job(1), add.job(2)]
    assert broker.push([entries[0], other[0], *entries[1:], other[1]]) == 1 + len(other)


def test_an_entry_enqueued_twice_is_written_once():
    job = spell.job(Word(id=uuid4(), text="once"))
    enqueued(job)
    enqueued(job)
    work()
    assert seen == [["once"]]


def test_a_failure_after_a_lost_lease_does_not_postpone_the_new_holder():
    [id] = enqueued(ask_and_fail.job())
    [stale] = leased_jobs.lease(id, 0).jobs
    assert leased_jobs.lease(id, 60).jobs
    ask_and_fail._record_failure(id, ConnectionError("late"), attempts=stale.attempts)
    failed = row(id)
    assert failed is not None
    assert failed.error is None
    assert failed.leased_until is not None


def test_a_unique_job_is_in_the_journal_once():
    enqueued(add.job(1).unique("monday"))
    enqueued(add.job(1).unique("monday"), add.job(1).unique("tuesday"))
    assert work() == ["test_jobs.add", "test_jobs.add"]
