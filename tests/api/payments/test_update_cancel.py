"""PUT and DELETE /payments/:id: edit a payment, the amount of an open request, cancel."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from actors import jobs
from db import event_log, payments
from db.payments import Payment
from db.users import Role
from tests import makers, tables
from tests.makers import Visitor, error, verify_email, visitor, work
from tests.tables import JobRow

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


class People(SimpleNamespace):
    """Visitors by name, each made when a test first names them."""

    ROLES = {"vendor": Role.VENDOR, "other": Role.VENDOR, "customer": Role.CUSTOMER, "admin": Role.ADMIN}

    def __init__(self, client) -> None:
        super().__init__()
        self._client = client

    def __getattr__(self, name: str) -> Visitor:
        if name not in self.ROLES:
            raise AttributeError(name)
        made = visitor(self._client, self.ROLES[name])
        setattr(self, name, made)
        return made


@pytest.fixture
def people(client) -> SimpleNamespace:
    """A vendor, a customer of theirs, another vendor, an administrator."""
    return People(client)


def ask(vendor: Visitor, **more: Any) -> str:
    """A new payment request of the vendor."""
    return vendor.post("/payments", {"type": "initiate", "amount": "80.00", **more}).json["data"]["id"]


def opened(vendor: Visitor, **more: Any) -> str:
    """A payment request of the vendor that can be paid."""
    id = ask(vendor, **more)
    work()
    return id


def pay(customer: Visitor, request_id: str) -> str:
    """A new payment of the customer for the request."""
    return customer.post("/payments", {"type": "payment", "requestId": request_id}).json["data"]["id"]


def at(people: SimpleNamespace, type: str, status: str) -> str:
    """A payment between vendor and customer, or a request of the vendor, in this status."""
    vendor, customer = UUID(people.vendor.user["id"]), UUID(people.customer.user["id"])
    user_id = vendor if type == "initiate" else customer
    return str(makers.payment_row(user_id=user_id, payee_id=vendor, type=type, status=status, amount=80).id)


def do(name: str) -> None:
    """Run the first job of this name and leave the others."""
    row = JobRow.select().where(JobRow.name == name).order_by(JobRow.position).first()
    jobs.registry[name].perform(row.id)


def now(id: str) -> Payment:
    return payments.Payment.get_by_id(id)


def fields(result) -> set[str]:
    assert error(result) == (400, "VALIDATION_ERROR")
    return {fault["field"] for fault in result.json["error"]["details"]["fields"]}


def steps(id: str) -> list[tuple[str, str | None, UUID | None]]:
    return [(row.transaction_type, row.reason, row.actor_id) for row in payments.history(UUID(id))]


# --- who may change a payment ----------------------------------------------------------------------------


@each_change
@pytest.mark.parametrize(
    ("caller", "what", "refused"),
    [
        ("vendor", "request", None),
        ("vendor", "payment", 403),
        ("other", "request", 404),
        ("other", "payment", 404),
        ("customer", "request", 403),
        ("customer", "payment", 403),
        ("admin", "request", None),
        ("admin", "payment", None),
    ],
)
def test_a_vendor_changes_own_requests_an_administrator_changes_everything(
    people, change, caller, what, refused
):
    method, path, body, done = change
    id = at(people, "initiate" if what == "request" else "payment", "pending")
    caller = getattr(people, caller)
    result = caller.send(method, f"/payments/{id}{path}", body)
    assert result.status_code == (refused or done), result.text
    work()
    assert makers.refusals(caller) == (refused == 403)
    assert (now(id).version > 1) == (refused is None)


@each_change
@pytest.mark.parametrize("id", [NOBODYS, "7", f"urn:uuid:{NOBODYS}"])
def test_an_unknown_payment_cannot_be_changed(people, change, id):
    method, path, body, _done = change
    assert error(people.admin.send(method, f"/payments/{id}{path}", body)) == (404, "NOT_FOUND")


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
def test_only_the_fields_in_the_body_are_changed(people, field, value, shown):
    id = opened(people.vendor, description="Two chairs", metadata={"table": 4}, customerEmail="x@example.com")
    before = people.vendor.get(f"/payments/{id}").json["data"]
    result = people.vendor.send("PUT", f"/payments/{id}", {field: value})
    assert result.status_code == 200
    after = result.json["data"]
    changed = {"version": before["version"] + 1, "updatedAt": after["updatedAt"]}
    assert after == before | changed | {field: shown}
    assert after["updatedAt"] > before["updatedAt"]
    assert people.vendor.get(f"/payments/{id}").json["data"] == after


def test_several_fields_are_changed_at_once(people):
    id = opened(people.vendor)
    body = {"description": "Rice", "metadata": {"kg": 2}, "amount": 500, "currency": "JPY"}
    data = people.vendor.send("PUT", f"/payments/{id}", body).json["data"]
    assert {name: data[name] for name in body} == body | {"amount": "500"}


@pytest.mark.parametrize(
    ("body", "wrong"),
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
def test_an_invalid_update_changes_nothing(people, body, wrong):
    id = opened(people.vendor)
    assert fields(people.vendor.send("PUT", f"/payments/{id}", body)) == wrong
    assert now(id).version == 2


@pytest.mark.parametrize(
    ("amount", "currency", "body", "result"),
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
def test_amount_and_currency_must_fit_together_after_an_update(people, amount, currency, body, result):
    id = opened(people.vendor, amount=amount, currency=currency)
    answer = people.vendor.send("PUT", f"/payments/{id}", body)
    if result in body:
        assert fields(answer) == {result}
    else:
        assert answer.json["data"]["amount"] == result


@pytest.mark.parametrize(("type", "status"), STATES)
def test_description_is_editable_until_the_end_amount_only_of_an_open_request(people, type, status):
    id = at(people, type, status)
    words = people.admin.send("PUT", f"/payments/{id}", WORDS | {"metadata": {}})
    assert words.status_code == (409 if status in FINAL else 200)
    terms: list[Mapping[str, Any]] = [TERMS, {"currency": "EUR"}, {"customerEmail": None}, WORDS | TERMS]
    open_request = (type, status) in (("initiate", "pending"), ("initiate", "initiated"))
    for body in terms:
        result = people.admin.send("PUT", f"/payments/{id}", body)
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
def test_if_match_with_an_old_version_is_refused(people, named, status):
    id = opened(people.vendor)
    headers = {} if named is None else {"If-Match": named}
    result = people.vendor.send("PUT", f"/payments/{id}", WORDS, headers=headers)
    assert result.status_code == status, result.text
    if status == 412:
        assert error(result) == (412, "VERSION_MISMATCH")
        assert "version is 2" in result.json["error"]["message"]
        assert (now(id).version, now(id).description) == (2, None)


def test_of_two_updates_of_one_version_the_first_succeeds(people):
    id = opened(people.vendor)
    headers = {"If-Match": people.vendor.get(f"/payments/{id}").headers["ETag"]}
    first = people.vendor.send("PUT", f"/payments/{id}", WORDS, headers=headers)
    second = people.admin.send("PUT", f"/payments/{id}", TERMS, headers=headers)
    assert first.headers["ETag"] == '"3"'
    assert error(second) == (412, "VERSION_MISMATCH")
    again = people.admin.send("PUT", f"/payments/{id}", TERMS, headers={"If-Match": first.headers["ETag"]})
    assert (again.json["data"]["description"], again.json["data"]["amount"]) == ("Three chairs", "79.00")


def test_an_update_has_one_event_one_audit_entry_no_transaction(people):
    id = opened(people.vendor)
    before, seq = steps(id), tables.last_seq()
    headers = {"X-Request-ID": "edit-1", "User-Agent": "till/7"}
    result = people.vendor.send("PUT", f"/payments/{id}", WORDS | TERMS, headers=headers)
    work()

    assert result.headers["ETag"] == '"3"'
    [event] = event_log.after(seq, 100)
    assert (event.type, event.request_id) == ("payments:payment:updated", "edit-1")
    assert event.data == {k: v for k, v in result.json["data"].items() if k != "allowedActions"}
    row = makers.audit_entries(UUID(id))[-1]
    assert (row.action, row.details) == ("payments.payment.update", {"fields": ["amount", "description"]})
    assert (str(row.user_id), row.ip_address, row.user_agent, row.request_id) == (
        people.vendor.user["id"],
        "127.0.0.1",
        "till/7",
        "edit-1",
    )
    assert [row.action for row in makers.audit_entries(UUID(id))].count("payments.payment.update") == 1
    assert steps(id) == before


def test_a_request_can_be_readdressed_or_opened_to_everyone(client, people):
    id = opened(people.vendor)
    stranger = visitor(client)
    verify_email(stranger)

    def readers() -> list[str]:
        return [
            name
            for name, caller in (("customer", people.customer), ("stranger", stranger))
            if caller.get(f"/payments/{id}").status_code == 200
        ]

    assert readers() == ["customer", "stranger"]
    people.vendor.send("PUT", f"/payments/{id}", {"customerEmail": stranger.user["email"].upper()})
    assert readers() == ["stranger"]
    people.vendor.send("PUT", f"/payments/{id}", {"customerEmail": None})
    assert readers() == ["customer", "stranger"]


def test_a_changed_request_is_paid_with_its_new_amount(people):
    id = opened(people.vendor)
    people.vendor.send("PUT", f"/payments/{id}", {"amount": "700", "currency": "JPY"})
    paid = now(pay(people.customer, id))
    assert (str(paid.amount), paid.currency) == ("700.00", "JPY")


# --- DELETE ---------------------------------------------------------------------------------------------


def test_a_cancellation_is_applied_by_a_worker(people):
    id = opened(people.vendor)
    headers = {"X-Request-ID": "cancel-1", "User-Agent": "till/7"}
    result = people.vendor.send("DELETE", f"/payments/{id}", headers=headers)
    assert (result.status_code, result.json["data"]["status"]) == (202, "initiated")

    assert work() == ["payments.cancel"]

    data = people.vendor.get(f"/payments/{id}").json["data"]
    assert (data["status"], data["allowedActions"], data["failure"]) == ("cancelled", [], None)
    vendor = UUID(people.vendor.user["id"])
    assert steps(id)[-1] == ("cancel", None, vendor)
    [row] = [row for row in makers.audit_entries(UUID(id)) if row.action == "payments.payment.cancel"]
    assert (row.user_id, row.ip_address, row.user_agent, row.request_id) == (
        vendor,
        "127.0.0.1",
        "till/7",
        "cancel-1",
    )
    [event] = [row for row in event_log.after(0, 1000) if row.request_id == "cancel-1"]
    assert (event.type, event.data["status"]) == ("payments:payment:updated", "cancelled")


def test_a_refusal_names_the_status_with_the_possible_next_ones(people):
    id = opened(people.vendor)
    operations = {
        "completed": lambda: people.admin.post(f"/payments/{id}/status", {"status": "completed"}),
        "review": lambda: people.admin.post(f"/payments/{id}/review", {"reason": "Looked"}),
    }
    for refused in operations.values():
        assert refused().json["error"]["details"] == {
            "status": "initiated",
            "nextStatuses": ["processing", "failed", "cancelled"],
        }
    people.vendor.send("DELETE", f"/payments/{id}")
    work()
    operations |= {
        "cancel": lambda: people.vendor.send("DELETE", f"/payments/{id}"),
        "update": lambda: people.vendor.send("PUT", f"/payments/{id}", {"description": "Lunch"}),
        "end": lambda: people.admin.post(f"/payments/{id}/review", {"reason": "x", "outcome": "failed"}),
    }
    for refused in operations.values():
        assert refused().json["error"]["details"] == {"status": "cancelled", "nextStatuses": []}


def test_a_cancelled_request_cannot_be_cancelled_or_paid(people):
    id = opened(people.vendor)
    people.vendor.send("DELETE", f"/payments/{id}")
    work()
    assert error(people.vendor.send("DELETE", f"/payments/{id}")) == (409, "INVALID_TRANSITION")
    paid = people.customer.post("/payments", {"type": "payment", "requestId": id})
    assert error(paid) == (409, "REQUEST_NOT_PAYABLE")


@pytest.mark.parametrize(("type", "status"), STATES)
def test_only_pending_payments_or_open_requests_can_be_cancelled(people, type, status):
    id = at(people, type, status)
    cancellable = status in ("pending", "initiated")
    for method, path, body in (("DELETE", "", None), ("POST", "/status", {"status": "cancelled"})):
        result = people.admin.send(method, f"/payments/{id}{path}", body)
        if cancellable:
            assert result.status_code == 202
        else:
            assert error(result) == (409, "INVALID_TRANSITION")
    work()
    assert now(id).status == ("cancelled" if cancellable else status)


def test_a_request_that_is_being_paid_cannot_be_cancelled(people):
    id = opened(people.vendor)
    pay(people.customer, id)
    assert error(people.vendor.send("DELETE", f"/payments/{id}")) == (409, "INVALID_TRANSITION")
    work()
    assert now(id).status == "completed"


def test_a_request_reopens_when_its_payment_is_cancelled(people):
    request = opened(people.vendor)
    payment = pay(people.customer, request)
    assert people.admin.send("DELETE", f"/payments/{payment}").status_code == 202
    do("payments.cancel")
    work()
    assert (now(payment).status, now(request).status) == ("cancelled", "initiated")
    assert [step for step, _reason, _actor in steps(request)] == ["create", "begin", "engage", "reopen"]
    pay(people.customer, request)
    work()
    assert now(request).status == "completed"


def test_a_late_cancellation_is_audited(people):
    request = opened(people.vendor)
    payment = pay(people.customer, request)
    assert people.admin.send("DELETE", f"/payments/{payment}").status_code == 202
    # The job that begins the payment was enqueued before.
    work()
    assert (now(payment).status, now(request).status) == ("completed", "completed")
    [row] = [
        row for row in makers.audit_entries(UUID(payment)) if row.action == "payments.transition.refused"
    ]
    assert str(row.user_id) == people.admin.user["id"]
    assert row.details == {"transition": "cancel", "status": "processing", "reason": None}


def test_a_cancellation_takes_no_body(people):
    id = opened(people.vendor)
    assert fields(people.vendor.send("DELETE", f"/payments/{id}", {"reason": "x"})) == {"reason"}
    work()
    assert now(id).status == "initiated"


# --- allowed actions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "customer", "vendor", "admin"),
    [
        (("initiate", "pending"), [], ["update", "cancel"], ["update", "cancel"]),
        (("initiate", "initiated"), ["pay"], ["update", "cancel"], ["update", "cancel", "fail"]),
        (("initiate", "processing"), [], ["update"], ["update"]),
        (("payment", "pending"), [], [], ["update", "cancel"]),
        (("payment", "processing"), [], [], ["update", "fail"]),
        *[(state, [], [], []) for state in STATES if state[1] in FINAL],
    ],
)
def test_allowed_actions_depend_on_status_with_role(people, state, customer, vendor, admin):
    id = at(people, *state)
    for caller, actions in ((people.customer, customer), (people.vendor, vendor), (people.admin, admin)):
        assert caller.get(f"/payments/{id}").json["data"]["allowedActions"] == actions
        listed = {
            item["id"]: item["allowedActions"] for item in caller.get("/payments").json["data"]["items"]
        }
        # A request without an addressee is in no list of a customer.
        assert listed.get(id, actions) == actions


def test_allowed_actions_follow_the_status(people):
    id = ask(people.vendor)
    assert people.vendor.get(f"/payments/{id}").json["data"]["allowedActions"] == ["update", "cancel"]
    cancelled = people.vendor.send("DELETE", f"/payments/{id}").json["data"]
    assert cancelled["allowedActions"] == ["update", "cancel"]
    do("payments.cancel")
    assert people.vendor.get(f"/payments/{id}").json["data"]["allowedActions"] == []
    assert now(id).status == "cancelled"
