"""POST /payments/:id/status: vendors cancel, administrators cancel or fail."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors import audit, jobs, payment_jobs
from actors.psp.provider import Answer, Outcome
from api.payments import prefer_wait
from db import payments, postgres, psp_attempts, psp_ledger
from db.payments import Payment
from db.psp_attempts import CallResult, PspOperation, PspResult
from tests import makers
from tests.makers import Visitor, error, visitor, work
from tests.tables import JobRow

STATES = [
    *(
        ("initiate", status)
        for status in ("pending", "initiated", "processing", "completed", "failed", "cancelled")
    ),
    *(("payment", status) for status in ("pending", "processing", "completed", "failed", "cancelled")),
]


@pytest.fixture
def meanwhile(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """Run a function while a request waits; each reading of the clock is a second later."""

    def happens(what: Callable[[], object]) -> None:
        clock = SimpleNamespace(monotonic=count().__next__, sleep=lambda _seconds: what())
        monkeypatch.setattr(prefer_wait, "time", clock)

    happens(lambda: None)
    return happens


def do(name: str) -> None:
    """Run the first job of this name, if there is one, and leave the others."""
    row = JobRow.select().where(JobRow.name == name).order_by(JobRow.position).first()
    if row is not None:
        jobs.registry[name].perform(row.id)


def enqueued() -> set[str]:
    return {row.name for row in JobRow.select() if row.name.startswith("payments.")}


def move(caller: Visitor, payment: Payment, status: str, reason: str | None = None, **headers: str):
    body = {"status": status} | ({} if reason is None else {"reason": reason})
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return caller.post(f"/payments/{payment.id}/status", body, headers=sent)


def at(customer: Visitor, vendor: Visitor, type: str, status: str) -> Payment:
    """A payment between the two, or a request of the vendor, in this status."""
    customer_id, vendor_id = UUID(customer.user["id"]), UUID(vendor.user["id"])
    user_id = vendor_id if type == "initiate" else customer_id
    return makers.payment_row(user_id=user_id, payee_id=vendor_id, type=type, status=status, amount=80)


def called_once(payment: Payment, *, ended: bool = True) -> Payment:
    """Begin the payment, call the PSP once and lose all jobs. The call has ended or is under way."""
    do("payments.begin")
    if ended:
        do("payments.charge")
    else:
        makers.begin_call(payment, PspOperation.CHARGE)
    postgres.rows("DELETE FROM journal.jobs WHERE name LIKE 'payments.%%'")
    return makers.reload(payment)


def age_attempts() -> None:
    """Make all calls so old that none is under way."""
    postgres.rows(
        "UPDATE payments.psp_attempts SET created_at = created_at - %s, ended_at = ended_at - %s",
        *[timedelta(seconds=31)] * 2,
    )


def book(payment: Payment, outcome: str, code: str | None = None, *, amount: Decimal | None = None) -> None:
    """Enter a decision of the PSP of which the payment does not know."""
    decided = {"amount": amount or payment.amount, "currency": "USD", "outcome": outcome, "code": code}
    psp_ledger.add(str(payment.id), payment_id=payment.id, **decided)  # type: ignore[arg-type]


def ended(payment: Payment) -> tuple[str, str | None]:
    found = makers.reload(payment)
    return found.status, found.failure_code


# --- permissions ----------------------------------------------------------------------------------------


def test_a_vendor_cancels_a_request_with_a_reason(vendor):
    request = makers.open_request(vendor_of(vendor))
    result = move(vendor, request, "cancelled", "Sold <b>out</b> & gone", X_Request_ID="out-1")
    assert (result.status_code, result.json["data"]["status"]) == (202, "initiated")
    assert work() == ["payments.cancel"]
    assert ended(request) == ("cancelled", None)
    row = payments.history(request.id)[-1]
    assert (row.status, row.reason, row.actor_id) == ("cancelled", "Sold out & gone", request.user_id)
    line = makers.audit_entries(request.id)[-1]
    assert (line.action, line.user_id, line.request_id) == (
        "payments.payment.cancel",
        request.user_id,
        "out-1",
    )
    assert line.details["reason"] == "Sold out & gone"


def vendor_of(caller: Visitor) -> Any:
    return SimpleNamespace(id=UUID(caller.user["id"]))


@pytest.mark.parametrize("status", ["failed", "completed", "processing", "pending", "initiated"])
def test_a_vendor_can_only_cancel(vendor, status):
    request = makers.open_request(vendor_of(vendor))
    assert error(move(vendor, request, status)) == (403, "FORBIDDEN")
    work()
    assert ended(request) == ("initiated", None)
    assert makers.refusals(vendor) == 1


@pytest.mark.parametrize("status", ["completed", "processing", "pending", "initiated"])
@pytest.mark.parametrize("type", ["initiate", "payment"])
def test_nobody_can_set_a_status_that_comes_from_the_provider(customer, vendor, admin, type, status):
    payment = at(customer, vendor, type, "processing" if type == "payment" else "initiated")
    assert error(move(admin, payment, status)) == (409, "INVALID_TRANSITION")
    work()
    assert makers.reload(payment).version == 1


@pytest.mark.parametrize("state", STATES)
def test_without_a_provider_order_only_an_open_request_can_fail(customer, vendor, admin, state, meanwhile):
    payment = at(customer, vendor, *state)
    result = move(admin, payment, "failed")
    if state == ("initiate", "initiated"):
        assert result.status_code == 202
    else:
        assert error(result) == (409, "INVALID_TRANSITION")


@pytest.mark.parametrize(
    ("reason", "message"),
    [("No such goods", "No such goods"), (None, "An administrator failed it.")],
)
def test_an_administrator_fails_an_open_request(vendor, admin, reason, message):
    request = makers.open_request(vendor_of(vendor))
    assert move(admin, request, "failed", reason).status_code == 202
    assert work() == ["payments.fail"]
    shown = vendor.get(f"/payments/{request.id}").json["data"]
    assert (shown["status"], shown["failure"]) == (
        "failed",
        {"code": "failed_by_admin", "message": message},
    )
    row = payments.history(request.id)[-1]
    assert (row.transaction_type, row.reason) == ("fail", reason or "failed_by_admin")
    assert str(row.actor_id) == admin.user["id"]


# --- fail a payment that the PSP may know -----------------------------------------------------------------


def test_a_charged_payment_completes_instead_of_failing(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="timeout"))
    meanwhile(lambda: do("payments.inquire"))
    result = move(admin, payment, "failed", "The customer asked for item")
    assert (result.status_code, result.json["data"]["status"]) == (202, "processing")
    assert work() == ["payments.settle"]
    assert ended(payment) == ("completed", None)
    [line] = [row for row in makers.audit_entries(payment.id) if row.action == "payments.psp.already_decided"]
    assert str(line.user_id) == admin.user["id"]
    assert line.details == {"transition": "fail", "reason": "The customer asked for item"}


def customer_of(caller: Visitor) -> Any:
    return SimpleNamespace(id=UUID(caller.user["id"]))


def test_a_declined_payment_fails_with_the_providers_code(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="outage"))
    book(payment, "declined", "expired_card")
    meanwhile(lambda: do("payments.inquire"))
    assert move(admin, payment, "failed", "The customer asked for item").status_code == 202
    work()
    assert ended(payment) == ("failed", "expired_card")


@pytest.mark.parametrize("psp", ["inquiry", "notice"])
def test_a_payment_that_ends_during_the_inquiry_keeps_its_end(customer, admin, meanwhile, psp):
    payment = called_once(makers.payment(customer_of(customer), simulate="timeout"))

    def late_answer() -> None:
        payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
        do("payments.settle")

    meanwhile(work if psp == "inquiry" else late_answer)
    result = move(admin, payment, "failed")
    assert (result.status_code, result.json["data"]["status"]) == (202, "completed")
    work()
    assert ended(payment) == ("completed", None)


def is_refused_for_the_amount(result: Any) -> bool:
    is_refused = error(result) == (409, "INVALID_TRANSITION")
    return is_refused and "has decided about another amount" in result.json["error"]["message"]


@pytest.mark.parametrize("outcome", ["charged", "declined"])
def test_an_inquiry_that_finds_another_amount_refuses_the_failure(customer, admin, meanwhile, outcome):
    payment = called_once(makers.payment(customer_of(customer), simulate="outage"))
    book(payment, outcome, amount=payment.amount + 1)
    meanwhile(lambda: do("payments.inquire"))
    # The review is opened by a job that has not run, and again after it was resolved.
    for _ in range(2):
        assert is_refused_for_the_amount(move(admin, payment, "failed"))
        assert makers.review(payment) is None
        work()
        assert makers.review(payment) == f"the PSP says: {outcome} {payment.amount + 1} USD"
        assert admin.post(f"/payments/{payment.id}/review", {"reason": "Asked them"}).status_code == 200
    work()
    assert ended(payment) == ("processing", None)
    assert audit.AuditAction.PSP_DECIDED not in {row.action for row in makers.audit_entries(payment.id)}


def test_an_open_review_of_the_amount_refuses_the_failure_without_an_inquiry(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="outage"))
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, payment.amount + 1, "USD"))
    do("payments.settle")
    meanwhile(lambda: do("payments.inquire"))
    assert is_refused_for_the_amount(move(admin, payment, "failed"))
    assert [row.operation for row in psp_attempts.for_payment(payment.id)] == ["charge", "notice"]
    assert "payments.inquire" not in enqueued()


def test_a_review_of_the_amount_that_opens_meanwhile_refuses_the_failure(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="outage"))
    book(payment, "charged", amount=payment.amount + 1)

    def inquire_and_settle() -> None:
        do("payments.inquire")
        do("payments.settle")

    meanwhile(inquire_and_settle)
    assert is_refused_for_the_amount(move(admin, payment, "failed"))
    assert makers.review(payment) == f"the PSP says: charged {payment.amount + 1} USD"


def test_a_decision_about_the_ordered_amount_counts_after_one_about_another(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="timeout"))
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, payment.amount + 1, "USD"))
    do("payments.settle")
    assert admin.post(f"/payments/{payment.id}/review", {"reason": "Asked them"}).status_code == 200
    meanwhile(lambda: do("payments.inquire"))
    assert move(admin, payment, "failed").status_code == 202
    work()
    assert ended(payment) == ("completed", None)


def test_a_confirmed_absent_payment_fails_by_hand(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="outage"))
    meanwhile(lambda: do("payments.inquire"))
    assert move(admin, payment, "failed", "The shop burned down").status_code == 202
    do("payments.fail")
    assert ended(payment) == ("failed", "failed_by_admin")
    failure = customer.get(f"/payments/{payment.id}").json["data"]["failure"]
    assert failure["message"] == "The shop burned down"
    row = payments.history(payment.id)[-1]
    assert (row.reason, str(row.actor_id)) == ("The shop burned down", admin.user["id"])
    # The job that the inquiry enqueued finds the payment ended.
    work()
    assert ended(payment) == ("failed", "failed_by_admin")
    assert psp_ledger.find(str(payment.id)) is None


def test_the_request_of_a_failed_payment_reopens(vendor, admin, client, meanwhile):
    request = makers.open_request(vendor_of(vendor))
    body = {"type": "payment", "requestId": str(request.id), "metadata": {"simulate": "outage"}}
    id = visitor(client).post("/payments", body).json["data"]["id"]
    payment = called_once(payments.Payment.get_by_id(id))
    meanwhile(lambda: do("payments.inquire"))
    move(admin, payment, "failed")
    do("payments.fail")
    assert ended(request) == ("initiated", None)


def test_a_payment_whose_order_may_still_arrive_does_not_fail(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer)), ended=False)
    meanwhile(lambda: do("payments.inquire"))
    assert error(move(admin, payment, "failed")) == (409, "INVALID_TRANSITION")
    assert ended(payment) == ("processing", None)
    assert "payments.fail" not in enqueued()

    age_attempts()
    assert move(admin, payment, "failed").status_code == 202
    do("payments.fail")
    assert ended(payment) == ("failed", "failed_by_admin")


def test_a_call_that_begins_meanwhile_prevents_the_failure(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="outage"))
    meanwhile(lambda: do("payments.inquire"))
    assert move(admin, payment, "failed").status_code == 202
    makers.begin_call(payment, PspOperation.CHARGE)
    do("payments.fail")
    assert ended(payment) == ("processing", None)
    work()
    [line] = [row for row in makers.audit_entries(payment.id) if row.action == "payments.transition.refused"]
    assert str(line.user_id) == admin.user["id"]


@pytest.mark.parametrize("what", ["payments.inquire", "nothing"], ids=["silent", "away"])
def test_a_payment_with_a_silent_provider_does_not_fail(customer, admin, meanwhile, what):
    payment = called_once(makers.payment(customer_of(customer), simulate="blackout"))
    age_attempts()
    meanwhile(lambda: do(what))
    assert error(move(admin, payment, "failed")) == (409, "INVALID_TRANSITION")
    assert ended(payment) == ("processing", None)
    assert "payments.fail" not in enqueued()


def test_an_earlier_result_does_not_answer_a_new_inquiry(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="outage"))
    meanwhile(lambda: do("payments.inquire"))
    assert move(admin, payment, "failed").status_code == 202
    postgres.rows("DELETE FROM journal.jobs WHERE name LIKE 'payments.%%'")
    meanwhile(lambda: do("nothing"))
    assert error(move(admin, payment, "failed")) == (409, "INVALID_TRANSITION")
    assert "payments.fail" not in enqueued()


@pytest.mark.parametrize("answered", [False, True])
def test_an_inquiry_survives_the_death_of_its_worker(customer, admin, meanwhile, answered):
    payment = called_once(makers.payment(customer_of(customer), simulate="timeout"))

    def die_and_come_back() -> None:
        row = JobRow.get(JobRow.name == "payments.inquire")
        id = UUID(row.args["inquiry"])
        assert makers.begin_call(payment, PspOperation.FIND, id)
        if answered:
            psp_attempts.record_results([CallResult(id, PspResult.CHARGED)])
        do("payments.inquire")
        assert "payments.inquire" not in enqueued()

    meanwhile(die_and_come_back)
    assert move(admin, payment, "failed").status_code == 202
    work()
    assert ended(payment) == ("completed", None)


# --- keys, bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_a_status_change_is_replayed_whatever_happened_since(vendor, admin, status):
    request = makers.open_request(vendor_of(vendor))
    first = move(admin, request, status, "Sold out", Idempotency_Key="k")
    work()
    again = move(admin, request, status, "Sold out", Idempotency_Key="k")
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert work() == []
    assert ended(request)[0] == status
    other = move(admin, request, status, "Another reason", Idempotency_Key="k")
    assert error(other) == (422, "IDEMPOTENCY_MISMATCH")
    assert error(move(admin, request, status, "Sold out")) == (409, "INVALID_TRANSITION")


def test_a_replay_makes_no_new_inquiry(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="timeout"))
    meanwhile(lambda: do("payments.inquire"))
    first = move(admin, payment, "failed", Idempotency_Key="k")
    again = move(admin, payment, "failed", Idempotency_Key="k")
    assert again.content == first.content
    asked_for = [row.operation for row in psp_attempts.for_payment(payment.id)]
    assert asked_for == ["charge", "find"]


def test_a_refused_status_change_is_not_stored(customer, admin, meanwhile):
    payment = called_once(makers.payment(customer_of(customer), simulate="timeout"))
    assert error(move(admin, payment, "failed", Idempotency_Key="k")) == (409, "INVALID_TRANSITION")
    meanwhile(lambda: do("payments.inquire"))
    assert move(admin, payment, "failed", Idempotency_Key="k").status_code == 202


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, {"status"}),
        ({"status": None}, {"status"}),
        ({"status": "paid"}, {"status"}),
        ({"status": "CANCELLED"}, {"status"}),
        ({"status": ["cancelled"]}, {"status"}),
        ({"status": "cancelled", "reason": 7}, {"reason"}),
        ({"status": "cancelled", "reason": "x" * 501}, {"reason"}),
        ({"status": "cancelled", "why": "x", "actorId": str(uuid4())}, {"why", "actorId"}),
    ],
)
def test_an_invalid_status_change_is_refused(vendor, body, wrong):
    request = makers.open_request(vendor_of(vendor))
    result = vendor.post(f"/payments/{request.id}/status", body)
    assert error(result) == (400, "VALIDATION_ERROR")
    assert {fault["field"] for fault in result.json["error"]["details"]["fields"]} == wrong
    assert work() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"cancelled"', b'{"status": "cancelled"'])
def test_a_status_change_must_be_an_object(vendor, body):
    request = makers.open_request(vendor_of(vendor))
    headers = {"Content-Type": "application/json"}
    result = vendor.post(f"/payments/{request.id}/status", body=body, headers=headers)
    assert error(result) == (400, "MALFORMED_JSON")
    assert work() == []


# --- allowed actions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_allowed_actions_match_the_routes(customer, vendor, admin, meanwhile, state):
    payment = at(customer, vendor, *state)
    book(payment, "charged")
    meanwhile(lambda: do("payments.inquire"))
    address = f"/payments/{payment.id}"
    tries: dict[str, Callable[[Visitor], Any]] = {
        "pay": lambda caller: caller.post("/payments", {"type": "payment", "requestId": str(payment.id)}),
        "update": lambda caller: caller.send("PUT", address, {"description": "x"}),
        "cancel": lambda caller: caller.send("DELETE", address),
        "fail": lambda caller: caller.post(f"{address}/status", {"status": "failed"}),
    }

    def succeeds(action: str, caller: Visitor) -> bool:
        with postgres.database.atomic() as attempt:
            result = tries[action](caller)
            attempt.rollback()
        return result.status_code < 400

    for caller in (customer, vendor, admin):
        found = caller.get(address).json["data"]["allowedActions"]
        assert found == [action for action in tries if succeeds(action, caller)], caller.user["role"]
