"""Many payments that are begun, settled or resolved together."""

from typing import Any
from uuid import uuid4

import pytest

from actors import payment_jobs, transitions
from actors.batch_jobs import BatchJob
from actors.external_calls import CallingKind
from actors.jobs import enqueue, transaction
from actors.psp.provider import Answer, Outcome
from actors.state_machine import Transition
from db import config, payments, postgres, psp_attempts
from db.core import request_context
from db.core.request_context import RequestContext
from db.psp_attempts import CallResult, PspOperation
from tests import makers
from tests.counting import counted
from tests.makers import work
from tests.tables import JobRow

pytestmark = pytest.mark.usefixtures("database")

CHARGED, DECLINED = Answer(Outcome.CHARGED), Answer(Outcome.DECLINED, "lost_card")


def do_together(kind: BatchJob[Any] | CallingKind[Any, Any]) -> None:
    """Does all waiting jobs of a kind in one batch."""
    kind.handle(uuid4())
    assert [job.error for job in JobRow.select() if job.name == kind.name] == []


def begin(*made: payments.Payment) -> None:
    do_together(payment_jobs.begin)
    assert {makers.reload(payment).status for payment in made} <= {"processing"}
    postgres.rows("DELETE FROM journal.jobs WHERE name = 'payments.charge'")


def decide(*decisions: tuple[payments.Payment, Answer]) -> None:
    """Enqueues the settlement of decisions that calls have brought."""
    for payment, answer in decisions:
        payment_jobs.receive_notice(payment.id, answer)


@pytest.mark.parametrize("kind", ["begin", "charge", "settle", "resolve"])
def test_a_batch_of_any_size_needs_the_same_number_of_statements(kind, lasting_caches):
    config.value(config.ConfigKey.PSP_LATENCY_MS)
    numbers = []
    for number in (2, 40):
        made = [makers.payment() for _ in range(number)]
        if kind == "charge":
            do_together(payment_jobs.begin)
        elif kind != "begin":
            begin(*made)
        if kind == "settle":
            decide(*[(payment, CHARGED) for payment in made])
        if kind == "resolve":
            with transaction():
                for payment in made:
                    enqueue(makers.resolve_job(payment))
        with counted() as asked:
            do_together(getattr(payment_jobs, kind))
        # The PSP's own statement for each charge is not ours.
        numbers.append(len([sql for sql in asked.statements if "psp_charge" not in sql]))
        postgres.rows("DELETE FROM journal.jobs")
    assert numbers[0] == numbers[1]


def test_a_payment_that_cannot_be_begun_keeps_no_other_from_it():
    cancelled, *others = [makers.payment() for _ in range(3)]
    with transaction():
        transitions.apply(transitions.locked(cancelled.id), Transition.CANCEL)
    do_together(payment_jobs.begin)
    assert makers.reload(cancelled).status == "cancelled"
    assert [makers.reload(payment).status for payment in others] == ["processing"] * 2


@pytest.mark.parametrize(
    ("answers", "status", "review"),
    [
        ([CHARGED, DECLINED], "completed", "the PSP declined it, but it is completed"),
        ([DECLINED, CHARGED], "failed", "the PSP charged it, but it is failed"),
        ([CHARGED, CHARGED], "completed", None),
    ],
)
def test_two_decisions_about_one_payment_are_settled_in_order(answers, status, review):
    twice, other = makers.payment(), makers.payment()
    begin(twice, other)
    decide((twice, answers[0]), (other, CHARGED), (twice, answers[1]))
    do_together(payment_jobs.settle)
    assert (makers.reload(twice).status, makers.review(twice)) == (status, review)
    assert makers.reload(other).status == "completed"
    assert {call.settled_at is None for call in psp_attempts.for_payment(twice.id)} == {False}


def test_many_payments_are_charged_together():
    made = [makers.payment(simulate=simulate) for simulate in ("approve", "decline", "outage", "duplicate")]
    do_together(payment_jobs.begin)
    do_together(payment_jobs.charge)
    calls = [psp_attempts.for_payment(payment.id)[0] for payment in made]
    assert [call.outcome for call in calls] == ["charged", "declined", "unavailable", "charged"]
    assert {call.operation for call in calls} == {"charge"}
    do_together(payment_jobs.settle)
    do_together(payment_jobs.resolve)
    assert [makers.reload(payment).status for payment in made] == [
        "completed",
        "failed",
        "processing",
        "completed",
    ]


def test_a_charge_is_not_ordered_again_before_an_inquiry():
    """A worker died during the call, or the job came back from the dead."""
    payment, other = makers.payment(), makers.payment()
    do_together(payment_jobs.begin)
    makers.begin_call(payment, PspOperation.CHARGE)
    do_together(payment_jobs.charge)
    assert [call.outcome for call in psp_attempts.for_payment(payment.id)] == [None]
    assert [call.outcome for call in psp_attempts.for_payment(other.id)] == ["charged"]
    do_together(payment_jobs.resolve)
    assert [job.name for job in JobRow.select() if job.args.get("payment_id") == str(payment.id)] == [
        "payments.inquire"
    ]


def test_a_decision_is_not_replaced_by_a_call_without_one():
    """Two workers made the same inquiry, since the lease of the first was lost."""
    payment = makers.payment()
    begin(payment)
    inquiry = uuid4()
    makers.begin_call(payment, PspOperation.FIND, inquiry)
    for outcome in ("not_found", "charged", "no_answer"):
        psp_attempts.record_results([CallResult(inquiry, outcome)])
    assert psp_attempts.find_result(inquiry) == "charged"


def test_a_decision_about_a_payment_that_does_not_exist_keeps_no_other_from_being_settled():
    payment = makers.payment()
    begin(payment)
    unknown = payments.Payment(id=uuid4())
    with transaction():
        enqueue(makers.settle_job(unknown, CHARGED))
        enqueue(makers.settle_job(payment, CHARGED))
    do_together(payment_jobs.settle)
    assert makers.reload(payment).status == "completed"


def test_every_payment_of_a_batch_keeps_the_id_of_its_request():
    requests = [f"request-{number}" for number in range(3)]
    made = []
    for request in requests:
        with request_context.acting_as(RequestContext(request)):
            made.append(makers.payment(simulate="decline"))
    do_together(payment_jobs.begin)
    work()
    for request, payment in zip(requests, made, strict=True):
        entries = makers.audit_entries(payment.id)
        assert [(entry.action.rpartition(".")[2], entry.request_id) for entry in entries] == [
            ("create", request),
            ("begin", request),
            ("fail", request),
        ]
