"""Operators, workers and the relay act on one job at the same moment."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from actors import account_erasure, job_operations
from actors.jobs import enqueue, transaction
from db import job_claims, postgres
from db.core.errors import DomainError
from tests import makers


@pytest.fixture
def dead_job(stores) -> Iterator[UUID]:
    job = account_erasure.erase.job(uuid4())
    with postgres.connection():
        with transaction():
            enqueue(job)
        postgres.rows("UPDATE journal.jobs SET dead_at = now(), error = 'it broke' WHERE id = %s", job.id)
    yield job.id
    makers.wipe()


def outcome(operation: Callable[[UUID], None], id: UUID) -> str:
    try:
        operation(id)
    except DomainError as refused:
        return str(refused.code)
    return "done"


@pytest.mark.parametrize("operation", [job_operations.retry, job_operations.drop])
def test_of_operators_who_repair_one_job_at_once_one_does(dead_job, operation):
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _n: outcome(operation, dead_job), range(8)))
    assert outcomes.count("done") == 1
    assert set(outcomes) <= {"done", "INVALID_TRANSITION", "NOT_FOUND"}


def test_a_job_is_either_retried_or_dropped(dead_job):
    with ThreadPoolExecutor(2) as pool:
        retried = pool.submit(outcome, job_operations.retry, dead_job)
        dropped = pool.submit(outcome, job_operations.drop, dead_job)
        assert [retried.result(), dropped.result()].count("done") == 1


def test_an_operator_does_not_wait_for_the_worker_that_does_the_job(dead_job):
    job_operations.retry(dead_job)
    with postgres.connection(), postgres.database.atomic():
        postgres.rows("UPDATE journal.jobs SET error = 'it broke' WHERE id = %s", dead_job)
    with postgres.connection(), postgres.database.atomic() as worker:
        assert job_claims.claim(dead_job)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(outcome, job_operations.retry, dead_job).result(60) == "INVALID_TRANSITION"
            assert pool.submit(outcome, job_operations.drop, dead_job).result(60) == "INVALID_TRANSITION"
        worker.rollback()


def test_an_operator_does_not_wait_for_another_one(dead_job):
    with postgres.connection(), postgres.database.atomic() as other:
        postgres.rows("SELECT FROM journal.jobs WHERE id = %s FOR UPDATE", dead_job)
        with ThreadPoolExecutor(1) as pool:
            for operation in (job_operations.retry, job_operations.drop):
                with pytest.raises(DomainError, match="This job is running"):
                    pool.submit(operation, dead_job).result(60)
        other.rollback()


def test_a_retry_of_all_leaves_out_what_another_operator_has(dead_job):
    with postgres.connection(), postgres.database.atomic() as other:
        postgres.rows("SELECT FROM journal.jobs WHERE id = %s FOR UPDATE", dead_job)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(job_operations.retry_dead, None).result(60) == 0
        other.rollback()
    assert job_operations.retry_dead() == 1
