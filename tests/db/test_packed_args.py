"""Long arguments of jobs are deflated in the journal, except for those that SQL searches."""

from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest

from actors import audit, events, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import transaction
from db import job_claims, job_journal, listed_jobs, packed_args, payments, postgres
from db.job_journal import Job

LONG: dict[str, Any] = {
    "entries": [{"action": "payments.payment.create", "to": "pending"}] * 20,
    "zloty": "zł",
}
# As it is stored.
ARGS = "SELECT args::text AS args FROM journal.jobs"


def stored(args: dict[str, Any]) -> Job:
    job = Job(uuid4(), "test.packed", "test-packed", args, None)
    with postgres.database.atomic():
        job_journal.insert([job])
    return job


def test_long_arguments_are_stored_deflated_and_read_as_they_were(database):
    job = stored(LONG)
    assert "pending" not in postgres.value(ARGS)
    assert (listed := listed_jobs.find(job.id))
    assert listed.args == LONG
    claimed = job_claims.claim(job.id)
    assert claimed
    assert claimed.args == LONG


@pytest.mark.parametrize(
    "args", [{"day": "2026-11-26"}, {**LONG, "email": "robin@example.com"}, {**LONG, "payment_id": "01a2"}]
)
def test_short_arguments_and_those_that_sql_searches_stay_readable(database, args):
    stored(args)
    assert postgres.value("SELECT args FROM journal.jobs") == args


def test_the_records_of_a_new_payment_take_a_third_of_their_length(database):
    payment = payments.new(user_id=uuid4(), type="payment", status="pending", amount=12, currency="EUR")
    with transaction():
        audit.record(
            AuditAction.PAYMENT_CREATE, resource=("payment", payment.id), details={"type": "payment"}
        )
        events.emit(EventType.PAYMENT_CREATED, snapshots.payment(payment))
    assert len(postgres.value(ARGS)) < 300


def test_what_the_release_before_has_packed_can_be_read():
    # Another dictionary reads something else: it needs another key, beside this one.
    assert (
        sha256(packed_args._DICTIONARY).hexdigest()
        == "94f5b63783c5b315c31f55c5057e7c73d2ee7d93cf44289c40f981db166137d5"
    )
