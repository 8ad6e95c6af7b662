"""A request with an `Idempotency-Key` changes a payment once and gets one response."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from falcon.testing import Result, create_req
from freezegun import freeze_time
from pydantic import BaseModel

from actors import housekeeping
from actors.jobs import enqueue, transaction
from api.payments import acceptance
from db import idempotency, payments
from db.idempotency import ACCEPT, IdempotencyKey
from db.users import Role
from tests import makers
from tests.counting import counted
from tests.makers import Visitor, error, visitor, work

BODY = {"type": "payment", "amount": "12.50"}


def pay(caller: Visitor, key: str, body: Mapping[str, object] = BODY, **more):
    return caller.post("/payments", body, headers={"Idempotency-Key": key}, **more)


def made() -> int:
    return payments.Payment.select().count()


def test_a_repeated_request_gets_the_stored_response_byte_for_byte(customer):
    first = pay(customer, "order-1")
    work()
    again = pay(customer, "order-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert made() == 1
    assert work() == []


def test_white_space_and_the_order_of_fields_do_not_change_a_request(customer):
    first = pay(customer, "order-1")
    headers = {"Idempotency-Key": "order-1", "Content-Type": "application/json"}
    again = customer.post("/payments", headers=headers, body=b'{ "amount": "12.50",\n"type": "payment" }')
    assert again.content == first.content


@pytest.mark.parametrize(
    "spelled",
    [
        {"amount": 12.5},
        {"amount": "12.5"},
        {"currency": "USD"},
        {"currency": None, "requestId": None, "description": None, "metadata": {}},
    ],
)
def test_equivalent_spellings_are_the_same_request(customer, spelled):
    first = pay(customer, "order-1")
    assert pay(customer, "order-1", {**BODY, **spelled}).content == first.content


def test_another_if_match_is_another_request(client, customer):
    vendor = visitor(client, Role.VENDOR)
    request = vendor.post("/payments", {"type": "initiate", "amount": "80.00"}).json["data"]["id"]
    work()
    version = customer.get(f"/payments/{request}").headers["ETag"]

    def pay_it(**headers: str) -> Result:
        return customer.post(
            "/payments",
            {"type": "payment", "requestId": request},
            headers={"Idempotency-Key": "order-1", **headers},
        )

    first = pay_it(**{"If-Match": version})
    assert first.status_code == 201
    assert pay_it(**{"If-Match": version}).content == first.content
    assert error(pay_it(**{"If-Match": '"9"'})) == (422, "IDEMPOTENCY_MISMATCH")
    assert error(pay_it()) == (422, "IDEMPOTENCY_MISMATCH")


def test_a_key_reused_for_another_request_is_refused(customer):
    pay(customer, "order-1")
    other = pay(customer, "order-1", {**BODY, "amount": "12.51"})
    assert error(other) == (422, "IDEMPOTENCY_MISMATCH")
    assert made() == 1


def test_keys_are_scoped_to_their_user(client, customer):
    assert pay(customer, "order-1").json != pay(customer, "order-2").json
    assert "Idempotency-Replayed" not in pay(visitor(client), "order-1").headers
    assert made() == 3


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "schlüssel"])
def test_a_malformed_key_is_refused(customer, key):
    result = pay(customer, key)
    assert error(result) == (400, "VALIDATION_ERROR")
    assert result.json["error"]["details"]["fields"][0]["field"] == "Idempotency-Key"
    assert made() == 0


@pytest.mark.parametrize("key", ["x", "x" * 255, "a key with spaces", "~!@#$%^&*()"])
def test_a_key_may_have_any_printable_characters(customer, key):
    pay(customer, key)
    assert pay(customer, key).headers["Idempotency-Replayed"] == "true"


def test_a_refusal_is_not_stored(client, customer):
    vendor = visitor(client, Role.VENDOR)
    request = vendor.post("/payments", {"type": "initiate", "amount": "80.00"}).json["data"]["id"]
    body = {"type": "payment", "requestId": request}
    assert error(pay(customer, "order-1", body)) == (409, "REQUEST_NOT_PAYABLE")
    assert error(pay(customer, "order-2", {"type": "payment"})) == (400, "VALIDATION_ERROR")
    assert error(pay(vendor, "order-3")) == (403, "FORBIDDEN")
    assert IdempotencyKey.select().count() == 0
    work()
    assert pay(customer, "order-1", body).status_code == 201


def test_a_key_is_kept_for_a_day_and_until_its_payment_has_ended(customer):
    done = pay(customer, "done").json["data"]["id"]
    work()
    pay(customer, "waits")
    tomorrow = payments.Payment.get_by_id(done).created_at + timedelta(days=1)
    minute = timedelta(minutes=1)

    def expire(at: datetime) -> set[str]:
        task = housekeeping.expire_idempotency_keys.job()
        with transaction():
            enqueue(task)
        with freeze_time(at):
            housekeeping.expire_idempotency_keys.perform(task.id)
        return {row.key for row in IdempotencyKey.select()}

    assert expire(tomorrow - minute) == {"done", "waits"}
    assert expire(tomorrow + minute) == {"waits"}
    work()
    assert expire(tomorrow + minute) == set()


@pytest.mark.parametrize(
    "id", ["00000000-0000-4000-8000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"]
)
def test_a_key_of_a_payment_with_a_random_id_is_kept_for_a_day(customer, id):
    """Early releases made such ids. The key may be newer than the payment by any time."""
    user_id = customer.user["id"]
    makers.payment_row(id=id, user_id=user_id, type="payment", status="completed", amount=80)
    stored_at = datetime(2026, 3, 1, tzinfo=UTC)
    IdempotencyKey.insert(
        user_id=user_id, key="old", request_hash="", provisional=False, payment_id=id, created_at=stored_at
    ).execute()
    assert idempotency.delete_expired(stored_at, 10) == 0
    assert idempotency.delete_expired(stored_at + timedelta(seconds=1), 10) == 1


def test_a_key_reused_for_another_path_is_refused(client, customer):
    vendor = visitor(client, Role.VENDOR)
    body = {"type": "initiate", "amount": "80.00"}
    first, second = (pay(vendor, key, body).json["data"]["id"] for key in ("order-1", "order-2"))
    work()
    key = {"Idempotency-Key": "order-3"}
    cancel = {"status": "cancelled"}
    assert vendor.post(f"/payments/{first}/status", cancel, headers=key).status_code == 202
    for other in (
        vendor.post(f"/payments/{second}/status", cancel, headers=key),
        vendor.post("/payments", body, headers=key),
    ):
        assert error(other) == (422, "IDEMPOTENCY_MISMATCH")
    assert work() == ["payments.cancel"]


@pytest.mark.parametrize("key", ["order-1", "another", "", "x" * 256])
def test_routes_without_idempotency_ignore_the_key(client, key):
    """A second cancellation is refused, so a key is not needed."""
    vendor = visitor(client, Role.VENDOR)
    id = pay(vendor, "order-1", {"type": "initiate", "amount": "80.00"}).json["data"]["id"]
    work()
    headers = {"Idempotency-Key": key}
    changed = vendor.send("PUT", f"/payments/{id}", {"amount": "79.00"}, headers=headers)
    assert changed.json["data"]["amount"] == "79.00"
    assert vendor.send("DELETE", f"/payments/{id}", headers=headers).status_code == 202
    assert work() == ["payments.cancel"]
    again = vendor.send("DELETE", f"/payments/{id}", headers=headers)
    assert error(again) == (409, "INVALID_TRANSITION")
    assert "Idempotency-Replayed" not in again.headers
    assert [row.key for row in IdempotencyKey.select()] == ["order-1"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "schlüssel"])
def test_a_malformed_key_changes_no_status(client, key):
    admin = visitor(client, Role.ADMIN)
    request = makers.open_request()
    for status in ("cancelled", "failed"):
        address, headers = f"/payments/{request.id}/status", {"Idempotency-Key": key}
        assert error(admin.post(address, {"status": status}, headers=headers)) == (400, "VALIDATION_ERROR")
    assert work() == []


def test_another_users_key_for_the_same_payment_is_separate(client):
    vendor, admin = visitor(client, Role.VENDOR), visitor(client, Role.ADMIN)
    id = pay(vendor, "order-1", {"type": "initiate", "amount": "80.00"}).json["data"]["id"]
    work()
    address, headers = f"/payments/{id}/status", {"Idempotency-Key": "cancel-1"}
    assert vendor.post(address, {"status": "cancelled"}, headers=headers).status_code == 202
    work()
    assert error(admin.post(address, {"status": "cancelled"}, headers=headers)) == (409, "INVALID_TRANSITION")


def test_a_field_that_a_later_release_adds_does_not_change_the_digest():
    class Now(BaseModel):
        amount: str

    class Later(Now):
        reference: str | None = None

    def digest(body: BaseModel) -> str:
        return acceptance._digest(create_req(method="POST", path="/api/payments"), body)

    assert digest(Later(amount="1")) == digest(Now(amount="1"))
    assert digest(Later(amount="1", reference="7")) != digest(Now(amount="1"))


def test_a_payment_with_a_key_is_stored_by_one_statement(customer, lasting_caches):
    pay(customer, "order-1")
    with counted() as asked:
        assert pay(customer, "order-2").status_code == 201
    assert [text for text in asked.statements if "find_live_session" not in text] == [ACCEPT.execute]


def test_a_refused_request_is_answered_from_its_key_first(client, customer):
    """The first request made the payment request unpayable for the second one, which is the same."""
    request = makers.open_request()
    work()
    body = {"type": "payment", "requestId": str(request.id)}
    first = pay(customer, "order-1", body)
    assert first.status_code == 201
    assert pay(customer, "order-1", body).content == first.content
    assert error(pay(customer, "order-2", body)) == (409, "REQUEST_NOT_PAYABLE")
