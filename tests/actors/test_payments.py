"""The main path of payments and requests."""

import pytest
import structlog.testing

from actors import jobs, payable, transitions
from actors.jobs import transaction
from actors.psp.provider import Answer, Outcome
from db import event_log, payments, psp_ledger
from db.core.errors import NotFound
from tests import makers
from tests.makers import pay, work

pytestmark = pytest.mark.usefixtures("database")


def test_a_payment_is_begun_charged_and_settled():
    payment = makers.payment()
    assert payment.status == "pending"

    assert work() == ["payments.begin", "payments.charge"]

    settled = makers.reload(payment)
    assert (settled.status, settled.failure_code, settled.version) == ("completed", None, 3)
    charge = psp_ledger.find(str(payment.id))
    assert charge is not None
    assert (charge.outcome, charge.amount, charge.currency) == ("charged", payment.amount, "USD")


def test_a_declined_payment_fails_with_the_psps_code():
    payment = makers.payment(simulate="decline:insufficient_funds")

    assert work() == ["payments.begin", "payments.charge"]

    settled = makers.reload(payment)
    assert (settled.status, settled.failure_code) == ("failed", "insufficient_funds")
    assert settled.failure_message == "The payment was declined: insufficient funds."


def test_every_transition_has_its_history_its_audit_entry_and_its_events():
    customer = makers.user()
    payment = makers.payment(customer)
    work()

    history = [(row.transaction_type, row.from_status, row.status) for row in payments.history(payment.id)]
    assert history == [
        ("create", None, "pending"),
        ("begin", "pending", "processing"),
        ("complete", "processing", "completed"),
    ]
    entries = makers.audit_entries(payment.id)
    assert [(entry.action, entry.details["to"]) for entry in entries] == [
        ("payments.payment.create", "pending"),
        ("payments.payment.begin", "processing"),
        ("payments.payment.complete", "completed"),
    ]
    emitted = [event for event in event_log.after(0, 1000) if event.data.get("id") == str(payment.id)]
    assert [(event.type.rpartition(":")[2], event.data["status"]) for event in emitted] == [
        ("created", "pending"),
        ("updated", "processing"),
        ("updated", "completed"),
        ("completed", "completed"),
    ]


def test_every_transition_is_logged_in_one_line(monkeypatch):
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr(transitions, "log", log)
    payment = makers.payment()
    work()
    assert [call.args[0] for call in log.calls] == ["payment created", "payment begun", "payment completed"]
    assert log.calls[-1].kwargs == {
        "payment_id": str(payment.id),
        "transition": "complete",
        "from": "processing",
        "to": "completed",
    }


def test_a_request_opens_and_waits_to_be_paid():
    request = makers.request()
    assert work() == ["payments.begin"]
    assert makers.reload(request).status == "initiated"


def test_a_paid_request_is_completed_with_its_payment():
    request = makers.open_request()
    payment = pay(request)
    assert (payment.amount, payment.payee_id) == (request.amount, request.user_id)
    assert makers.reload(request).status == "processing"

    work()

    assert makers.reload(payment).status == "completed"
    assert makers.reload(request).status == "completed"


def test_a_request_whose_payment_failed_can_be_paid_again():
    request = makers.open_request()
    pay(request, simulate="decline")
    work()
    assert makers.reload(request).status == "initiated"

    again = pay(request)
    work()
    assert (makers.reload(again).status, makers.reload(request).status) == ("completed", "completed")


def test_a_request_is_paid_once():
    request = makers.open_request()
    pay(request)
    with pytest.raises(payable.RequestNotPayable):
        pay(request)


def test_a_request_addressed_to_another_customer_is_not_found():
    request = makers.open_request(customer_email="her@example.com")
    with pytest.raises(NotFound):
        pay(request)


def test_a_second_decision_does_not_change_a_completed_payment():
    payment = makers.payment()
    work()
    with transaction():
        jobs.enqueue(makers.settle_job(payment, Answer(Outcome.DECLINED, "late")))
    assert work() == ["payments.settle"]
    assert makers.reload(payment).status == "completed"
