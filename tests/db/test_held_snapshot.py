"""While a long transaction keeps the rows of removed jobs, a search for the first job does not read them all."""

from collections.abc import Callable, Iterator
from functools import partial
from uuid import uuid4

import psycopg2
import pytest

from db import job_claims, job_floors, job_journal, leased_jobs, postgres, redelivery
from db.job_journal import Job

NAME, QUEUE = "test.held_snapshot", "test-held-snapshot"
BLOCKS = """
    SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) AS blocks FROM pg_class
    WHERE relnamespace = 'journal'::regnamespace AND relname LIKE 'jobs%%'
"""


def new_jobs(count: int) -> list[Job]:
    return [Job(uuid4(), NAME, QUEUE, {}, None, shared=True, share="") for _ in range(count)]


def blocks(search: Callable[[], object]) -> int:
    """How many blocks a search reads that finds one job."""
    with postgres.database.atomic() as transaction:
        job_journal.insert(new_jobs(1))
        before = blocks_so_far()
        assert search()
        after = blocks_so_far()
        transaction.rollback()
    return after - before


def blocks_so_far() -> int:
    """How many blocks of the journal the open transaction has read."""
    return int(postgres.rows(BLOCKS)[0]["blocks"])


def pass_through(count: int) -> None:
    for _ in range(count // 500):
        with postgres.database.atomic():
            job_journal.insert(new_jobs(500))
        with postgres.database.atomic():
            leased_jobs.remove(leased_jobs.lease_first(NAME, 500, 15.0).jobs)


@pytest.fixture
def journal(stores: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The journal, used by nobody else; every search from the first position counts as slow."""
    monkeypatch.setattr(job_floors, "SLOW_S", -1)
    job_floors.forget()
    redelivery.forget()
    with postgres.connection():
        postgres.rows("VACUUM journal.jobs")
        # A table as small as this one may be read as a whole, whatever the indexes.
        postgres.rows("SET enable_seqscan = off")
        yield stores["DATABASE_URL"]
        postgres.rows("RESET enable_seqscan")
        job_floors.forget()
        redelivery.forget()
        postgres.rows("DELETE FROM journal.jobs WHERE name = %s", NAME)


@pytest.mark.parametrize(
    "search",
    [
        lambda: job_claims.claim_first(NAME, 1),
        lambda: job_claims.claim_first(NAME, 1, in_order=True),
        lambda: job_claims.waits(NAME),
        lambda: leased_jobs.lease_first(NAME, 1, 15.0),
    ],
    ids=["claim_first", "claim_first_in_order", "waits", "lease_first"],
)
def test_a_job_is_found_with_few_reads_while_a_backup_runs(journal, monkeypatch, search):
    before = blocks(search)
    with psycopg2.connect(journal) as backup, backup.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM journal.jobs")
        pass_through(3000)
        job_floors.forget()
        assert blocks(search) > 5 * before
        # Two searches from the beginning later.
        for _ in range(2):
            job_floors.position(NAME)
            job_floors._floors[NAME].expires_at = 0
        job_floors.position(NAME)
        # An index that is empty before has one level less.
        assert blocks(search) <= 2 * max(before, 2)


@pytest.mark.parametrize(
    "find",
    [
        job_claims.claim,
        lambda id: leased_jobs.lease(id, 15.0).jobs,
        lambda id: job_journal.ready([id]),
        job_journal.make_due,
    ],
    ids=["claim", "lease", "ready", "make_due"],
)
def test_a_job_is_found_by_its_id_with_few_reads_while_the_planner_takes_the_journal_for_empty(journal, find):
    with psycopg2.connect(journal) as backup, backup.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM journal.jobs")
        pass_through(1500)
        postgres.rows("VACUUM ANALYZE journal.jobs")
        with postgres.database.atomic():
            before = blocks_so_far()
            find(uuid4())
            assert blocks_so_far() - before <= 20


@pytest.mark.parametrize(
    ("search", "delay"),
    [
        (lambda: job_claims.claim_first(NAME, 1), 0),
        (lambda: job_claims.claim_first(NAME, 1, in_order=True), 0),
        (lambda: job_claims.waits(NAME), 0),
        (lambda: leased_jobs.lease_first(NAME, 1, 15.0).jobs, 0),
        (lambda: redelivery.overdue_within_s([QUEUE], [NAME], [NAME]), -1),
    ],
    ids=["claim_first", "claim_first_in_order", "waits", "lease_first", "overdue_within_s"],
)
def test_a_plan_of_an_empty_journal_finds_the_first_job_of_a_full_one_with_few_reads(journal, search, delay):
    postgres.rows("RESET enable_seqscan")
    # The plan of the first execution stays.
    with postgres.database.atomic():
        assert not search()
    with postgres.database.atomic() as transaction:
        job_journal.insert([job.delayed(delay) for job in new_jobs(3000)])
        before = blocks_so_far()
        assert search()
        assert blocks_so_far() - before <= 40
        transaction.rollback()


def test_a_job_whose_transaction_committed_late_is_found(journal, monkeypatch):
    monkeypatch.setattr(job_floors, "REMEMBERED_FOR_S", 0)
    late = psycopg2.connect(journal)
    try:
        with late.cursor() as cursor:
            cursor.execute(
                "INSERT INTO journal.jobs (id, name, queue, args, due_at) VALUES (%s, %s, %s, '{}', now())",
                (str(uuid4()), NAME, QUEUE),
            )
            pass_through(1000)
            job_claims.waits(NAME)
            for _ in range(3):
                job_floors.position(NAME)
            late.commit()
        assert job_floors.position(NAME) > 0
        assert not job_claims.waits(NAME)
        monkeypatch.setattr(job_floors, "FROM_BEGINNING_AFTER_S", 0)
        job_floors._floors[NAME].from_beginning_at = 0
        assert job_claims.waits(NAME)
    finally:
        late.close()


def test_the_relay_searches_a_minute_back_after_two_slow_searches(journal):
    search = partial(redelivery.overdue_within_s, [QUEUE], [], [])
    with postgres.database.atomic() as transaction:
        job_journal.insert([new_jobs(1)[0].delayed(1)])
        postgres.rows("UPDATE journal.jobs SET due_at = now() - interval '2 minutes' WHERE name = %s", NAME)
        assert [search() for _ in range(3)] == [redelivery.FULL_S, redelivery.FULL_S, None]
        redelivery.search_fully_next()
        assert search() == redelivery.FULL_S
        assert redelivery.overdue_queues([QUEUE], redelivery.FULL_S) == [QUEUE]
        assert redelivery.overdue_queues([QUEUE], redelivery.RECENT_S) == []
        transaction.rollback()
