"""Reviews, provider calls and statement differences, for administrators."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors import payment_jobs
from actors.jobs import enqueue, transaction
from actors.psp.provider import Answer, Outcome
from api.payments import status_changes
from db import payments, postgres, psp_attempts, reviews, statements
from db.payments import Payment
from db.psp_attempts import PspAttempt, PspOperation
from db.reviews import ReviewCause
from db.states import PaymentStatus
from tests import makers
from tests.makers import Visitor, error, work

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def paid(caller: Visitor, **metadata: Any) -> Payment:
    """Create a payment and run its jobs."""
    payment = makers.payment(SimpleNamespace(id=UUID(caller.user["id"])), **metadata)  # type: ignore[arg-type]
    work()
    return makers.reload(payment)


# --- needs review ---------------------------------------------------------------------------------------


def test_the_review_list_contains_only_payments_with_open_reviews(customer, admin):
    fine, silent = paid(customer), paid(customer, simulate="blackout")

    def found(query: str) -> list[str]:
        return [item["id"] for item in admin.get(f"/payments?{query}").json["data"]["items"]]

    assert found("needsReview=true") == [str(silent.id)]
    assert found("needsReview=false") == [str(fine.id)]
    assert found("") == [str(silent.id), str(fine.id)]
    assert found("needsReview=true&status=processing&type=payment") == [str(silent.id)]
    assert found("needsReview=true&status=completed") == []


def test_a_resolved_payment_leaves_the_review_list(customer, admin):
    payment = paid(customer, simulate="blackout")
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    work()
    assert admin.get("/payments?needsReview=true").json["data"]["items"] == []
    [review] = admin.get(f"/payments/{payment.id}/attempts").json["data"]["reviews"]
    assert (review["cause"], review["resolution"]) == ("psp_silent", "the PSP has answered")
    assert (review["resolvedBy"], review["resolvedAt"] >= review["openedAt"]) == (None, True)


def test_while_the_psp_is_silent_a_failure_is_refused_and_not_offered(customer, admin, monkeypatch):
    monkeypatch.setattr(status_changes, "_INQUIRY_WAIT_S", 0)
    payment = paid(customer, simulate="blackout")
    address = f"/payments/{payment.id}"

    def offered() -> list[list[str]]:
        listed = admin.get("/payments").json["data"]["items"]
        shown = admin.send("PUT", address, {"description": "Silent"})
        return [
            item["allowedActions"] for item in (*listed, shown.json["data"], admin.get(address).json["data"])
        ]

    assert offered() == [["update"]] * 3
    assert error(admin.post(f"{address}/status", {"status": "failed"})) == (409, "INVALID_TRANSITION")
    # Another review does not keep the PSP from answering.
    assert admin.post(f"/payments/{payment.id}/review", {"reason": "Called them"}).status_code == 200
    reviews.open_reviews([(payment.id, ReviewCause.STATEMENT_DIFFERS, "look")])
    assert offered() == [["update", "fail"]] * 3


def test_a_payment_of_another_amount_at_the_psp_is_ended_by_its_review_only(customer, admin):
    payment = paid(customer, simulate="blackout")
    address = f"/payments/{payment.id}"
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, Decimal("5.00"), "USD"))
    work()
    assert [review["cause"] for review in reviewed(admin, payment) if not review["resolvedAt"]] == [
        "amount_differs"
    ]
    shown = admin.send("PUT", address, {"description": "Another amount"})
    for answer in (shown, admin.get(address)):
        assert answer.json["data"]["allowedActions"] == ["update"]
    refused = admin.post(f"{address}/status", {"status": "failed"})
    assert error(refused) == (409, "INVALID_TRANSITION")
    assert "has decided about another amount" in refused.json["error"]["message"]
    # Nothing was asked of the PSP.
    assert "payments.inquire" not in work()
    body = {"reason": "Refunded on the telephone", "outcome": "failed"}
    assert admin.post(f"{address}/review", body).json["data"]["status"] == "failed"


def test_the_review_list_has_pages(customer, admin):
    made = [str(paid(customer).id) for _ in range(5)]
    for id in made:
        reviews.open_reviews(
            [(UUID(id), ReviewCause.STATEMENT_DIFFERS, why) for why in ("look", "and look again")]
        )
    paid(customer)
    first = admin.get("/payments?needsReview=true&limit=3").json["data"]
    cursor = first["pagination"]["nextCursor"]
    rest = admin.get(f"/payments?needsReview=true&limit=3&cursor={cursor}").json["data"]
    assert [item["id"] for item in first["items"] + rest["items"]] == made[::-1]


@pytest.mark.parametrize("value", ["true", "false"])
def test_the_review_filter_is_for_administrators(customer, vendor, value):
    for caller in (customer, vendor):
        assert error(caller.get(f"/payments?needsReview={value}")) == (403, "FORBIDDEN")
    work()
    assert makers.refusals(customer, vendor) == 2


@pytest.mark.parametrize("value", ["maybe", " ", "2"])
def test_an_invalid_review_filter_is_refused(admin, value):
    assert error(admin.get(f"/payments?needsReview={value}")) == (400, "VALIDATION_ERROR")


# --- reviews --------------------------------------------------------------------------------------------


def late(caller: Visitor) -> Payment:
    """A failed payment that the PSP reports as charged."""
    payment = paid(caller, simulate="decline")
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    work()
    return payment


def audited(payment: Payment) -> list[tuple[str, dict[str, Any]]]:
    """The audit entries about the reviews of a payment."""
    work()
    return [(row.action, row.details) for row in makers.audit_entries(payment.id) if "review" in row.action]


def reviewed(admin: Visitor, payment: Payment) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.get(f"/payments/{payment.id}/attempts").json["data"]["reviews"]
    return found


def test_a_review_records_its_opening_with_its_resolution(customer, admin):
    payment = late(customer)
    [opened] = reviewed(admin, payment)
    assert (opened["cause"], opened["reason"]) == (
        "charged_after_end",
        "the PSP charged it, but it is failed",
    )
    assert opened["openedAt"]
    assert (opened["resolvedAt"], opened["resolvedBy"], opened["resolution"]) == (None, None, None)

    result = admin.post(f"/payments/{payment.id}/review", {"reason": "Refunded on the telephone"})
    assert (result.status_code, result.json["data"]["status"]) == (200, "failed")

    [resolved] = reviewed(admin, payment)
    assert resolved["resolution"] == "Refunded on the telephone"
    assert resolved["resolvedBy"] == admin.user["id"]
    assert resolved["resolvedAt"] >= opened["openedAt"]
    assert admin.get("/payments?needsReview=true").json["data"]["items"] == []
    details = {"id": opened["id"], "cause": opened["cause"], "review": opened["reason"]}
    assert audited(payment) == [
        ("payments.review.opened", details),
        ("payments.payment.reviewed", {**details, "reason": "Refunded on the telephone"}),
    ]


def test_a_disproved_review_is_resolved_without_a_user(customer, admin):
    payment = paid(customer, simulate="blackout")
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    assert [action for action, _ in audited(payment)] == [
        "payments.review.opened",
        "payments.review.resolved",
    ]
    assert reviewed(admin, payment)[0]["resolvedBy"] is None


def test_a_review_about_money_survives_transitions(customer, admin):
    payment = paid(customer, simulate="blackout")
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, Decimal("5.00"), "USD"))
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, payment.amount, "USD"))
    work()
    assert makers.reload(payment).status == "completed"
    open_now = {item["cause"]: item["resolvedAt"] is None for item in reviewed(admin, payment)}
    assert open_now == {"psp_silent": False, "amount_differs": True}


def test_one_reason_opens_one_review(customer, admin):
    payment = late(customer)
    for _ in range(3):
        payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    work()
    assert len(reviewed(admin, payment)) == 1
    assert [action for action, _ in audited(payment)] == ["payments.review.opened"]


def test_a_resolved_review_reopens_only_before_the_end(customer, admin):
    ended, open_still = late(customer), paid(customer, simulate="blackout")
    for payment in (ended, open_still):
        assert admin.post(f"/payments/{payment.id}/review", {"reason": "Looked"}).status_code == 200
    payment_jobs.receive_notice(ended.id, Answer(Outcome.CHARGED))
    with transaction():
        enqueue(payment_jobs.inquire_job(open_still.id))
    work()
    assert makers.review(ended) is None
    assert makers.review(open_still) == "the PSP does not answer"


def test_a_review_that_is_not_named_stays_open(customer, admin):
    payment = late(customer)
    seen = [item["id"] for item in reviewed(admin, payment)]
    reviews.open_reviews([(payment.id, ReviewCause.STATEMENT_DIFFERS, "charged twice")])
    body = {"reason": "Refunded on the telephone", "reviewIds": [*seen, str(uuid4())]}
    assert admin.post(f"/payments/{payment.id}/review", body).status_code == 200
    assert makers.review(payment) == "charged twice"
    assert len([item for item in reviewed(admin, payment) if item["resolvedAt"]]) == 1
    # A review that another administrator has resolved is not resolved again.
    assert error(admin.post(f"/payments/{payment.id}/review", body)) == (409, "INVALID_TRANSITION")


@pytest.mark.parametrize(
    "ids",
    [
        [],
        ["7"],
        "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e",
        [None],
        ["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"] * 101,
    ],
)
def test_invalid_review_ids_are_refused(customer, admin, ids):
    body = {"reason": "Looked", "reviewIds": ids}
    assert error(admin.post(f"/payments/{late(customer).id}/review", body)) == (400, "VALIDATION_ERROR")


def test_a_payment_without_reviews_cannot_be_reviewed(customer, vendor, admin):
    payment = paid(customer)
    assert error(admin.post(f"/payments/{payment.id}/review", {"reason": "x"})) == (409, "INVALID_TRANSITION")
    for caller in (customer, vendor):
        assert error(caller.post(f"/payments/{late(customer).id}/review", {"reason": "x"})) == (
            403,
            "FORBIDDEN",
        )


def test_an_early_statement_is_disproved_only_by_the_same_outcome(customer, admin):
    ahead = "the PSP's statement says: charged, but the payment is processing"
    ends = {Answer(Outcome.CHARGED): None, Answer(Outcome.DECLINED, "lost_card"): ahead}
    for answer, left in ends.items():
        payment = paid(customer, simulate="blackout")
        reviews.open_reviews([(payment.id, ReviewCause.STATEMENT_CHARGED, ahead)])
        payment_jobs.receive_notice(payment.id, answer)
        work()
        assert makers.review(payment) == left


# --- ended by hand --------------------------------------------------------------------------------------


def misreported(payment: Payment) -> Payment:
    """A payment of which the PSP charged one dollar more than ordered."""
    postgres.rows(
        "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome)"
        " SELECT id, id, amount + 1, currency, 'charged' FROM payments.payments WHERE id = %s",
        payment.id,
    )
    with transaction():
        enqueue(payment_jobs.inquire_job(payment.id))
    work()
    assert makers.reload(payment).status == "processing"
    return payment


@pytest.mark.parametrize(("outcome", "request_is"), [("completed", "completed"), ("failed", "initiated")])
def test_an_administrator_ends_a_payment_with_a_differing_amount(admin, outcome, request_is):
    request = makers.open_request()
    payment = makers.pay(request, simulate="blackout")
    work()
    misreported(payment)
    body = {"reason": "Charged one dollar more, which was refunded", "outcome": outcome}

    result = admin.post(f"/payments/{payment.id}/review", body)

    assert (result.status_code, result.json["data"]["status"]) == (200, outcome)
    assert (makers.reload(request).status, makers.review(payment)) == (request_is, None)
    moved = payments.history(payment.id)[-1]
    assert (str(moved.actor_id), moved.status, moved.reason) == (admin.user["id"], outcome, body["reason"])
    action, details = audited(payment)[-1]
    assert (action, details["reason"], details["outcome"]) == ("payments.payment.reviewed", *body.values())
    admin.post("/admin/invariants")
    work()
    checked = admin.get("/admin/invariants").json["data"]["invariants"]
    assert [item["name"] for item in checked if not item["ok"]] == []
    # The PSP repeats its decision, which changes nothing.
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, payment.amount + 1, "USD"))
    work()
    assert (makers.reload(payment).status, makers.review(payment)) == (outcome, None)


def test_an_undecided_or_ended_payment_cannot_be_ended_by_hand(customer, admin):
    silent, ended, fine = paid(customer, simulate="blackout"), late(customer), paid(customer)
    for payment in (silent, ended, fine):
        for outcome in ("completed", "failed"):
            result = admin.post(f"/payments/{payment.id}/review", {"reason": "x", "outcome": outcome})
            assert error(result) == (409, "INVALID_TRANSITION")
    assert makers.reload(silent).status == "processing"
    assert makers.review(ended)


@pytest.mark.parametrize("outcome", ["cancelled", "processing", "charged", "", True])
def test_an_invalid_outcome_is_refused(customer, admin, outcome):
    payment = misreported(paid(customer, simulate="blackout"))
    result = admin.post(f"/payments/{payment.id}/review", {"reason": "x", "outcome": outcome})
    assert error(result) == (400, "VALIDATION_ERROR")


# --- provider calls -------------------------------------------------------------------------------------


def test_provider_calls_are_listed_newest_first(customer, admin):
    payment = paid(customer, simulate="timeout")
    data = admin.get(f"/payments/{payment.id}/attempts").json["data"]
    calls = [(item["operation"], item["outcome"], item["reference"]) for item in data["items"]]
    assert calls == [("find", "charged", str(payment.id)), ("charge", "no_answer", str(payment.id))]
    assert data["review"] is None
    for item in data["items"]:
        assert item.keys() == {"id", "operation", "reference", "outcome", "code", "createdAt", "endedAt"}
        assert item["createdAt"] <= item["endedAt"]


def test_a_decline_has_a_code_an_open_call_has_no_end(customer, admin):
    declined = paid(customer, simulate="decline:expired_card")
    [call] = admin.get(f"/payments/{declined.id}/attempts").json["data"]["items"]
    assert (call["outcome"], call["code"]) == ("declined", "expired_card")

    silent = paid(customer, simulate="blackout")
    makers.begin_call(silent, PspOperation.FIND)
    data = admin.get(f"/payments/{silent.id}/attempts").json["data"]
    assert (data["items"][0]["outcome"], data["items"][0]["endedAt"]) == (None, None)
    assert data["review"] == "the PSP does not answer"


def test_a_payment_without_calls_has_an_empty_list(admin):
    request = makers.open_request()
    data = admin.get(f"/payments/{request.id}/attempts").json["data"]
    assert (data["items"], data["review"]) == ([], None)


@pytest.mark.parametrize("moment", [None, NOON], ids=["one after the other", "all at one moment"])
def test_provider_calls_have_pages(customer, admin, moment):
    payment = paid(customer, simulate="blackout")
    if moment:
        PspAttempt.update(created_at=moment).execute()
    made = [str(row.id) for row in psp_attempts.for_payment(payment.id)]
    assert len(made) > 3
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        data = admin.get(f"/payments/{payment.id}/attempts?limit=2{cursor}").json["data"]
        seen += [item["id"] for item in data["items"]]
        token = data["pagination"]["nextCursor"]
        cursor = f"&cursor={token}" if token else None
        makers.begin_call(payment, PspOperation.FIND)
    assert seen == made[::-1]


def test_provider_calls_are_for_administrators(customer, vendor, admin):
    payment = paid(customer)
    for caller in (customer, vendor):
        assert error(caller.get(f"/payments/{payment.id}/attempts")) == (403, "FORBIDDEN")
    for id in (uuid4(), "7"):
        assert error(admin.get(f"/payments/{id}/attempts")) == (404, "NOT_FOUND")
    for query in ("limit=0", "cursor=x", "outcome=charged"):
        result = admin.get(f"/payments/{payment.id}/attempts?{query}")
        assert error(result) == (400, "VALIDATION_ERROR")


# --- differences ----------------------------------------------------------------------------------------


def line(reference: object, outcome: str, amount: str = "12.50", currency: str = "USD") -> dict[str, Any]:
    """A line of the PSP's statement of the day."""
    decided = {"outcome": outcome, "amount": Decimal(amount), "currency": currency}
    return {"id": str(reference), "reference": str(reference), "day": DAY, "booked_at": NOON, **decided}


def differences(admin: Visitor, day: date = DAY) -> dict[str, Any]:
    result = admin.get(f"/payments/differences?day={day}")
    assert result.status_code == 200, result.text
    data: dict[str, Any] = result.json["data"]
    return data


def test_an_unmatched_day_is_reported_as_such(admin):
    assert differences(admin) == {"day": "2026-03-01", "matched": False, "count": 0, "items": []}


def test_a_matching_day_has_no_differences(customer, admin):
    completed, failed = paid(customer), paid(customer, simulate="decline")
    statements.add_lines([line(completed.id, "charged"), line(failed.id, "declined")])
    statements.mark_matched(DAY, 0)
    assert differences(admin) == {"day": "2026-03-01", "matched": True, "count": 0, "items": []}


def test_a_day_lists_its_differences(customer, admin):
    completed, failed, other, fine = (
        paid(customer),
        paid(customer, simulate="decline"),
        paid(customer),
        paid(customer),
    )
    stranger, foreign = uuid4(), "another-company-7"
    expected = {
        str(completed.id): (str(completed.id), "declined, but the payment is completed"),
        str(failed.id): (str(failed.id), "charged, but the payment is failed"),
        str(other.id): (str(other.id), "charged 12.51 USD, but the payment is over 12.50 USD"),
        str(stranger): (None, "charged, and there is no such payment"),
        foreign: (None, "declined, and there is no such payment"),
    }
    statements.add_lines(
        [
            line(completed.id, "declined"),
            line(failed.id, "charged"),
            line(other.id, "charged", "12.51"),
            line(stranger, "charged"),
            line(foreign, "declined"),
            line(fine.id, "charged"),
        ]
    )
    statements.mark_matched(DAY, len(expected))
    items = differences(admin)["items"]
    assert {item["reference"]: (item["paymentId"], item["reason"]) for item in items} == expected
    assert len(items) == len(expected)
    # Side by side: ours, and the PSP's.
    by_reference = {item["reference"]: item for item in items}
    [theirs] = by_reference[str(other.id)]["lines"]
    assert (theirs["amount"], by_reference[str(other.id)]["payment"]["amount"]) == ("12.51", "12.50")
    assert (theirs["outcome"], theirs["day"], theirs["bookedAt"]) == (
        "charged",
        "2026-03-01",
        "2026-03-01T12:00:00.000Z",
    )
    assert (by_reference[foreign]["payment"], len(by_reference[foreign]["lines"])) == (None, 1)


def test_a_completed_payment_missing_in_the_statement_is_a_difference(customer, admin):
    payment = paid(customer)
    # The statement of a day ends a minute before midnight.
    completed_on = (payments.history(payment.id)[-1].created_at + statements.CLOCK_TOLERANCE).date()
    for day in (completed_on, completed_on - timedelta(days=1)):
        statements.mark_matched(day, 0)
    [item] = differences(admin, completed_on)["items"]
    assert item == {
        "reference": str(payment.id),
        "paymentId": str(payment.id),
        "reason": "completed, but never charged",
        "payment": {
            "status": "completed",
            "amount": "12.50",
            "currency": "USD",
            "updatedAt": item["payment"]["updatedAt"],
            "needsReview": False,
        },
        "lines": [],
    }
    assert differences(admin, completed_on - timedelta(days=1))["items"] == []


def test_only_the_first_hundred_differences_are_listed(admin):
    statements.add_lines([line(f"order-{place:03}", "charged") for place in range(101)])
    statements.mark_matched(DAY, 101)
    found = differences(admin)
    assert (found["count"], len(found["items"]), found["items"][0]["reference"]) == (101, 100, "order-000")


def test_a_corrected_difference_disappears(customer, admin):
    payment = paid(customer, simulate="blackout")
    statements.add_lines([line(payment.id, "charged")])
    statements.mark_matched(DAY, 1)
    assert differences(admin)["items"][0]["reason"] == "charged, but the payment is processing"
    makers.set_status(payment, PaymentStatus.COMPLETED)
    assert differences(admin)["items"] == []


@pytest.mark.parametrize(
    "query", ["", "?day=", "?day=2026-3-1", "?day=2026-02-30", "?day=0", "?day=today", "?day=20260301",
              "?day=2026-03-01T00:00:00Z", "?day=0000-01-01", "?day=2026-03-01&limit=3"]
)  # fmt: skip
def test_an_invalid_day_is_refused(admin, query):
    assert error(admin.get(f"/payments/differences{query}")) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_first_or_last_possible_day_is_accepted(admin, day):
    assert differences(admin, date.fromisoformat(day)) == {
        "day": day,
        "matched": False,
        "count": 0,
        "items": [],
    }


def test_differences_are_for_administrators(customer, vendor):
    for caller in (customer, vendor):
        assert error(caller.get("/payments/differences?day=2026-03-01")) == (403, "FORBIDDEN")
