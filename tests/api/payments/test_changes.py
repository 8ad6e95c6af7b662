"""Changing payments at the door: their words, an open request's terms, and cancelling."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from actors import jobs
from db import audit_log, event_log, job_journal, payments
from db.payments import Payment
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, verify_email, visitor, work

WORDS = {"description": "Three chairs"}
TERMS = {"amount": "79.00"}
FINAL = ("completed", "failed", "cancelled")
STATES = [
    *(("initiate", status) for status in ("pending", "initiated", "processing", *FINAL)),
    *(("payment", status) for status in ("pending", "processing", *FINAL)),
]
CHANGES = [
    ("PUT", "", WORDS, 200),
    ("DELETE", "", None, 202),
    ("POST", "/status", {"status": "cancelled"}, 202),
]
each_change = pytest.mark.parametrize("change", CHANGES, ids=["edit", "cancel", "cancel by status"])

NOBODYS = "0197b2a4-5a3c-7000-8000-00000000dead"


@pytest.fixture
def people(client) -> SimpleNamespace:
    """A vendor and a customer with business between them, another vendor, and an administrator."""
    roles = {"vendor": Role.VENDOR, "other": Role.VENDOR, "customer": Role.CUSTOMER, "boss": Role.ADMIN}
    return SimpleNamespace(**{name: visitor(client, role) for name, role in roles.items()})


def ask(vendor: Visitor, **more: Any) -> str:
    """A request that the vendor has just made."""
    return vendor.post("/payments", {"type": "initiate", "amount": "80.00", **more}).json["data"]["id"]


def opened(vendor: Visitor, **more: Any) -> str:
    """A request of the vendor's that can be paid."""
    id = ask(vendor, **more)
    work()
    return id


def pay(customer: Visitor, request_id: str) -> str:
    """A payment against it that the customer has just made."""
    return customer.post("/payments", {"type": "payment", "requestId": request_id}).json["data"]["id"]


def at(people: SimpleNamespace, type: str, status: str) -> str:
    """A payment between vendor and customer, or the vendor's request, that stands there."""
    vendor, customer = UUID(people.vendor.user["id"]), UUID(people.customer.user["id"])
    user_id = vendor if type == "initiate" else customer
    return str(makers.payment_row(user_id=user_id, payee_id=vendor, type=type, status=status, amount=80).id)


def do(verb: str) -> None:
    """Does the first promise of this verb, and leaves the others."""
    row = (
        job_journal.JobRow.select()
        .where(job_journal.JobRow.name == verb)
        .order_by(job_journal.JobRow.position)
        .first()
    )
    jobs.registry[verb].perform(row.id)


def now(id: str) -> Payment:
    return payments.Payment.get_by_id(id)


def fields(result) -> set[str]:
    assert error(result) == (400, "VALIDATION_ERROR")
    return {fault["field"] for fault in result.json["error"]["details"]["fields"]}


def steps(id: str) -> list[tuple[str, str | None, UUID | None]]:
    return [(it.transaction_type, it.reason, it.actor_id) for it in payments.history(UUID(id))]


# --- whose it is to change ------------------------------------------------------------------------------


@each_change
@pytest.mark.parametrize(
    ("who", "what", "refused"),
    [
        ("vendor", "request", None),
        ("vendor", "payment", 403),
        ("other", "request", 404),
        ("other", "payment", 404),
        ("customer", "request", 403),
        ("customer", "payment", 403),
        ("boss", "request", None),
        ("boss", "payment", None),
    ],
)
def test_a_vendor_changes_their_own_requests_and_an_administrator_everything(
    people, change, who, what, refused
):
    method, path, body, done = change
    id = at(people, "initiate" if what == "request" else "payment", "pending")
    caller = getattr(people, who)
    result = caller.send(method, f"/payments/{id}{path}", body)
    assert result.status_code == (refused or done), result.text
    work()
    assert makers.refusals(caller) == (refused == 403)
    assert (now(id).version > 1) == (refused is None)


@each_change
@pytest.mark.parametrize("id", [NOBODYS, "7", f"urn:uuid:{NOBODYS}"])
def test_what_is_not_there_cannot_be_changed(people, change, id):
    method, path, body, _done = change
    assert error(people.boss.send(method, f"/payments/{id}{path}", body)) == (404, "NOT_FOUND")


# --- PUT ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("description", "Three chairs", "Three chairs"),
        ("description", "<b>Tom</b> & <i>Jerry</i> < 3 \U0001f600", "Tom & Jerry < 3 \U0001f600"),
        ("description", "ü" * 500, "ü" * 500),
        ("description", None, None),
        ("metadata", {"table": 7, "more": [None]}, {"table": 7, "more": [None]}),
        ("metadata", {}, {}),
        ("amount", "79.5", "79.50"),
        ("amount", 0.01, "0.01"),
        ("currency", "EUR", "EUR"),
        ("customerEmail", " Her@Example.com ", "Her@example.com"),
        ("customerEmail", None, None),
    ],
)
def test_the_named_field_is_changed_and_no_other(people, field, value, shown):
    id = opened(people.vendor, description="Two chairs", metadata={"table": 4}, customerEmail="x@example.com")
    before = people.vendor.get(f"/payments/{id}").json["data"]
    result = people.vendor.send("PUT", f"/payments/{id}", {field: value})
    assert result.status_code == 200
    after = result.json["data"]
    changed = {"version": before["version"] + 1, "updatedAt": after["updatedAt"]}
    assert after == before | changed | {field: shown}
    assert after["updatedAt"] > before["updatedAt"]
    assert people.vendor.get(f"/payments/{id}").json["data"] == after


def test_many_fields_are_changed_at_once(people):
    id = opened(people.vendor)
    wish = {"description": "Rice", "metadata": {"kg": 2}, "amount": 500, "currency": "JPY"}
    data = people.vendor.send("PUT", f"/payments/{id}", wish).json["data"]
    assert {name: data[name] for name in wish} == wish | {"amount": "500"}


@pytest.mark.parametrize(
    ("wish", "wrong"),
    [
        ({}, {"body"}),
        ({"amount": None, "currency": None, "metadata": None}, {"amount", "currency", "metadata"}),
        ({"amount": "0"}, {"amount"}),
        ({"amount": True}, {"amount"}),
        ({"amount": "100000000"}, {"amount"}),
        ({"currency": "XAU"}, {"currency"}),
        ({"currency": "usd"}, {"currency"}),
        ({"description": 7}, {"description"}),
        ({"description": "x" * 501}, {"description"}),
        ({"metadata": []}, {"metadata"}),
        ({"metadata": {"a": "x" * 8200}}, {"metadata"}),
        ({"customerEmail": "nobody"}, {"customerEmail"}),
        (
            {"status": "completed", "type": "payment", "requestId": None},
            {"status", "type", "requestId"},
        ),
        ({**WORDS, "payee_id": "x", "customer_email": None}, {"payee_id", "customer_email"}),
        ({**WORDS, "version": 7, "userId": NOBODYS}, {"version", "userId"}),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is(people, wish, wrong):
    id = opened(people.vendor)
    assert fields(people.vendor.send("PUT", f"/payments/{id}", wish)) == wrong
    assert now(id).version == 2


@pytest.mark.parametrize(
    ("amount", "currency", "wish", "result"),
    [
        ("80.00", "USD", {"currency": "JPY"}, "80"),
        ("80.50", "USD", {"currency": "JPY"}, "currency"),
        ("80.50", "USD", {"currency": "JPY", "amount": "81"}, "81"),
        ("80.50", "USD", {"currency": "JPY", "amount": "81.5"}, "amount"),
        ("80", "JPY", {"amount": "80.50"}, "amount"),
        ("80", "JPY", {"amount": "80.50", "currency": "EUR"}, "80.50"),
        ("80", "JPY", {"currency": "EUR"}, "80.00"),
        ("80", "USD", {"amount": "80.505"}, "amount"),
    ],
)
def test_amount_and_currency_fit_together_afterwards(people, amount, currency, wish, result):
    id = opened(people.vendor, amount=amount, currency=currency)
    answer = people.vendor.send("PUT", f"/payments/{id}", wish)
    if result in wish:
        assert fields(answer) == {result}
    else:
        assert answer.json["data"]["amount"] == result


@pytest.mark.parametrize(("type", "status"), STATES)
def test_words_can_be_changed_to_the_end_and_terms_while_nobody_pays(people, type, status):
    id = at(people, type, status)
    words = people.boss.send("PUT", f"/payments/{id}", WORDS | {"metadata": {}})
    assert words.status_code == (409 if status in FINAL else 200)
    terms: list[Mapping[str, Any]] = [TERMS, {"currency": "EUR"}, {"customerEmail": None}, WORDS | TERMS]
    open_request = (type, status) in (("initiate", "pending"), ("initiate", "initiated"))
    for wish in terms:
        result = people.boss.send("PUT", f"/payments/{id}", wish)
        if open_request:
            assert result.status_code == 200
        else:
            assert error(result) == (409, "INVALID_TRANSITION")
    assert now(id).version == 1 + (status not in FINAL) + len(terms) * open_request


@pytest.mark.parametrize(
    ("named", "status"),
    [
        (None, 200),
        ('"2"', 200),
        ("*", 200),
        ('"9", "2"', 200),
        ('"1"', 412),
        ('"3"', 412),
        ('"9", "8"', 412),
        ('W/"2"', 412),
        ('"02"', 412),
        ('"*"', 412),
        ("garbage", 412),
        ('"', 412),
        ("", 412),
    ],
)
def test_only_the_version_that_the_caller_has_seen_is_changed(people, named, status):
    id = opened(people.vendor)
    headers = {} if named is None else {"If-Match": named}
    result = people.vendor.send("PUT", f"/payments/{id}", WORDS, headers=headers)
    assert result.status_code == status, result.text
    if status == 412:
        assert error(result) == (412, "VERSION_MISMATCH")
        assert "version is 2" in result.json["error"]["message"]
        assert (now(id).version, now(id).description) == (2, None)


def test_of_two_who_saw_the_same_version_the_first_one_changes_it(people):
    id = opened(people.vendor)
    headers = {"If-Match": people.vendor.get(f"/payments/{id}").headers["ETag"]}
    first = people.vendor.send("PUT", f"/payments/{id}", WORDS, headers=headers)
    second = people.boss.send("PUT", f"/payments/{id}", TERMS, headers=headers)
    assert first.headers["ETag"] == '"3"'
    assert error(second) == (412, "VERSION_MISMATCH")
    again = people.boss.send("PUT", f"/payments/{id}", TERMS, headers={"If-Match": first.headers["ETag"]})
    assert (again.json["data"]["description"], again.json["data"]["amount"]) == ("Three chairs", "79.00")


def test_a_change_is_told_once_and_audited_once_and_is_no_step(people):
    id = opened(people.vendor)
    before, seq = steps(id), event_log.last_seq()
    headers = {"X-Request-ID": "edit-1", "User-Agent": "till/7"}
    result = people.vendor.send("PUT", f"/payments/{id}", WORDS | TERMS, headers=headers)
    work()

    assert result.headers["ETag"] == '"3"'
    [event] = event_log.after(seq, 100)
    assert (event.type, event.request_id) == ("payments:payment:updated", "edit-1")
    assert event.data == {k: v for k, v in result.json["data"].items() if k != "allowedActions"}
    row = audit_log.of_resource(UUID(id))[-1]
    assert (row.action, row.details) == ("payments.payment.update", {"fields": ["amount", "description"]})
    assert (str(row.user_id), row.ip_address, row.user_agent, row.request_id) == (
        people.vendor.user["id"],
        "127.0.0.1",
        "till/7",
        "edit-1",
    )
    assert [it.action for it in audit_log.of_resource(UUID(id))].count("payments.payment.update") == 1
    assert steps(id) == before


def test_a_request_is_addressed_anew_and_becomes_a_link_again(client, people):
    id = opened(people.vendor)
    stranger = visitor(client)
    verify_email(stranger)

    def readers() -> list[str]:
        return [
            name
            for name, who in (("customer", people.customer), ("stranger", stranger))
            if who.get(f"/payments/{id}").status_code == 200
        ]

    assert readers() == ["customer", "stranger"]
    people.vendor.send("PUT", f"/payments/{id}", {"customerEmail": stranger.user["email"].upper()})
    assert readers() == ["stranger"]
    people.vendor.send("PUT", f"/payments/{id}", {"customerEmail": None})
    assert readers() == ["customer", "stranger"]


def test_who_pays_a_changed_request_pays_its_new_terms(people):
    id = opened(people.vendor)
    people.vendor.send("PUT", f"/payments/{id}", {"amount": "700", "currency": "JPY"})
    paid = now(pay(people.customer, id))
    assert (str(paid.amount), paid.currency) == ("700.00", "JPY")


# --- DELETE ---------------------------------------------------------------------------------------------


def test_a_request_is_cancelled_behind_the_door(people):
    id = opened(people.vendor)
    headers = {"X-Request-ID": "cancel-1", "User-Agent": "till/7"}
    result = people.vendor.send("DELETE", f"/payments/{id}", headers=headers)
    assert (result.status_code, result.json["data"]["status"]) == (202, "initiated")

    assert work() == ["payments.cancel"]

    data = people.vendor.get(f"/payments/{id}").json["data"]
    assert (data["status"], data["allowedActions"], data["failure"]) == ("cancelled", [], None)
    vendor = UUID(people.vendor.user["id"])
    assert steps(id)[-1] == ("cancel", None, vendor)
    [row] = [it for it in audit_log.of_resource(UUID(id)) if it.action == "payments.payment.cancel"]
    assert (row.user_id, row.ip_address, row.user_agent, row.request_id) == (
        vendor,
        "127.0.0.1",
        "till/7",
        "cancel-1",
    )
    [event] = [it for it in event_log.after(0, 1000) if it.request_id == "cancel-1"]
    assert (event.type, event.data["status"]) == ("payments:payment:updated", "cancelled")


def test_a_refused_change_says_the_status_and_those_that_can_follow(people):
    id = opened(people.vendor)
    asked = {
        "completed": lambda: people.boss.post(f"/payments/{id}/status", {"status": "completed"}),
        "review": lambda: people.boss.post(f"/payments/{id}/review", {"reason": "Looked"}),
    }
    for refused in asked.values():
        assert refused().json["error"]["details"] == {
            "status": "initiated",
            "nextStatuses": ["processing", "failed", "cancelled"],
        }
    people.vendor.send("DELETE", f"/payments/{id}")
    work()
    asked |= {
        "cancel": lambda: people.vendor.send("DELETE", f"/payments/{id}"),
        "update": lambda: people.vendor.send("PUT", f"/payments/{id}", {"description": "Lunch"}),
        "end": lambda: people.boss.post(f"/payments/{id}/review", {"reason": "x", "outcome": "failed"}),
    }
    for refused in asked.values():
        assert refused().json["error"]["details"] == {"status": "cancelled", "nextStatuses": []}


def test_what_is_cancelled_cannot_be_cancelled_or_paid(people):
    id = opened(people.vendor)
    people.vendor.send("DELETE", f"/payments/{id}")
    work()
    assert error(people.vendor.send("DELETE", f"/payments/{id}")) == (409, "INVALID_TRANSITION")
    paid = people.customer.post("/payments", {"type": "payment", "requestId": id})
    assert error(paid) == (409, "REQUEST_NOT_PAYABLE")


@pytest.mark.parametrize(("type", "status"), STATES)
def test_only_what_nobody_has_begun_to_pay_can_be_cancelled(people, type, status):
    id = at(people, type, status)
    cancellable = status in ("pending", "initiated")
    for method, path, body in (("DELETE", "", None), ("POST", "/status", {"status": "cancelled"})):
        result = people.boss.send(method, f"/payments/{id}{path}", body)
        if cancellable:
            assert result.status_code == 202
        else:
            assert error(result) == (409, "INVALID_TRANSITION")
    work()
    assert now(id).status == ("cancelled" if cancellable else status)


def test_a_request_that_is_being_paid_is_not_cancelled(people):
    id = opened(people.vendor)
    pay(people.customer, id)
    assert error(people.vendor.send("DELETE", f"/payments/{id}")) == (409, "INVALID_TRANSITION")
    work()
    assert now(id).status == "completed"


def test_a_request_is_open_again_when_its_payment_is_cancelled(people):
    request = opened(people.vendor)
    payment = pay(people.customer, request)
    assert people.boss.send("DELETE", f"/payments/{payment}").status_code == 202
    do("payments.cancel")
    work()
    assert (now(payment).status, now(request).status) == ("cancelled", "initiated")
    assert [step for step, _reason, _actor in steps(request)] == ["create", "begin", "engage", "reopen"]
    pay(people.customer, request)
    work()
    assert now(request).status == "completed"


def test_a_cancellation_that_comes_too_late_is_written_down_for_whoever_asked(people):
    request = opened(people.vendor)
    payment = pay(people.customer, request)
    assert people.boss.send("DELETE", f"/payments/{payment}").status_code == 202
    # The payment was promised to begin before.
    work()
    assert (now(payment).status, now(request).status) == ("completed", "completed")
    [row] = [it for it in audit_log.of_resource(UUID(payment)) if it.action == "payments.transition.refused"]
    assert str(row.user_id) == people.boss.user["id"]
    assert row.details == {"transition": "cancel", "status": "processing", "reason": None}


def test_a_cancellation_takes_no_body(people):
    id = opened(people.vendor)
    assert fields(people.vendor.send("DELETE", f"/payments/{id}", {"reason": "x"})) == {"reason"}
    work()
    assert now(id).status == "initiated"


# --- what one may do with it now ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "customer", "vendor", "boss"),
    [
        (("initiate", "pending"), [], ["update", "cancel"], ["update", "cancel"]),
        (("initiate", "initiated"), ["pay"], ["update", "cancel"], ["update", "cancel", "fail"]),
        (("initiate", "processing"), [], ["update"], ["update"]),
        (("payment", "pending"), [], [], ["update", "cancel"]),
        (("payment", "processing"), [], [], ["update", "fail"]),
        *[(state, [], [], []) for state in STATES if state[1] in FINAL],
    ],
)
def test_each_is_told_what_they_may_do_with_it(people, state, customer, vendor, boss):
    id = at(people, *state)
    for who, actions in ((people.customer, customer), (people.vendor, vendor), (people.boss, boss)):
        assert who.get(f"/payments/{id}").json["data"]["allowedActions"] == actions
        listed = {it["id"]: it["allowedActions"] for it in who.get("/payments").json["data"]["items"]}
        # A link is not in its readers' lists.
        assert listed.get(id, actions) == actions


def test_what_one_may_do_changes_with_the_payment(people):
    id = ask(people.vendor)
    assert people.vendor.get(f"/payments/{id}").json["data"]["allowedActions"] == ["update", "cancel"]
    cancelled = people.vendor.send("DELETE", f"/payments/{id}").json["data"]
    assert cancelled["allowedActions"] == ["update", "cancel"]
    do("payments.cancel")
    assert people.vendor.get(f"/payments/{id}").json["data"]["allowedActions"] == []
    assert now(id).status == "cancelled"
