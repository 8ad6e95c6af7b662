"""A request is payable while its vendor is active, within the limits, by another user."""

from uuid import UUID

import pytest

from actors import payment_endings, payment_jobs
from actors.jobs import enqueue, transaction
from actors.psp.provider import Answer, Outcome
from db import config, event_log, payments, users
from db.payments import Payment
from db.users import Role, User
from tests import makers
from tests.makers import Visitor, error, work
from tests.tables import JobRow


def vendor_of(caller: Visitor) -> User:
    return User.get_by_id(caller.user["id"])


def pay(caller: Visitor, request: Payment):
    return caller.post("/payments", {"type": "payment", "requestId": str(request.id)})


def close(admin: Visitor, caller: Visitor) -> None:
    assert admin.send("DELETE", f"/admin/users/{caller.user['id']}").status_code == 200


def demote(admin: Visitor, caller: Visitor) -> None:
    result = admin.send("PUT", f"/admin/users/{caller.user['id']}/role", {"role": "CUSTOMER"})
    assert result.status_code == 200


def suspend(admin: Visitor, caller: Visitor) -> None:
    assert admin.send("PUT", f"/admin/users/{caller.user['id']}", {"active": False}).status_code == 200


leaves = pytest.mark.parametrize("leaves", [close, demote, suspend])


def actions(caller: Visitor, request: Payment) -> list[str]:
    [alone] = [caller.get(f"/payments/{request.id}").json["data"]["allowedActions"]]
    listed = {item["id"]: item["allowedActions"] for item in caller.get("/payments").json["data"]["items"]}
    assert listed[str(request.id)] == alone
    return alone


@leaves
def test_open_requests_of_a_departing_vendor_are_cancelled(customer, vendor, admin, leaves):
    opened, others = makers.open_request(vendor_of(vendor)), makers.open_request()
    pending = makers.request(vendor_of(vendor))
    leaves(admin, vendor)
    assert error(pay(customer, opened)) == (409, "REQUEST_NOT_PAYABLE"), (
        "at once, and not when the job is done"
    )
    assert "payments.withdraw_requests" in work()
    for request in (opened, pending):
        assert makers.reload(request).status == "cancelled"
        last = payments.history(request.id)[-1]
        assert (last.reason, str(last.actor_id)) == (
            "its vendor takes no payments any more",
            admin.user["id"],
        )
        cancelled = [
            line for line in makers.audit_entries(request.id) if line.action == "payments.payment.cancel"
        ]
        assert [str(line.user_id) for line in cancelled] == [admin.user["id"]]
        kinds = [event.type for event in event_log.after(0, 1000) if event.data["id"] == str(request.id)]
        assert kinds[-1] == "payments:payment:updated"
    assert error(pay(customer, opened)) == (409, "REQUEST_NOT_PAYABLE")
    assert pay(customer, others).status_code == 201


def test_open_requests_are_cancelled_in_batches(vendor, admin, monkeypatch):
    monkeypatch.setattr(payment_endings, "REQUEST_BATCH", 2)
    requests = [makers.request(vendor_of(vendor)) for _ in range(5)]
    close(admin, vendor)
    # A second run covers requests that reopen meanwhile.
    assert work().count("payments.withdraw_requests") == 3 + 1
    assert {makers.reload(request).status for request in requests} == {"cancelled"}


def test_requests_of_a_reinstated_vendor_stay_open(vendor, admin):
    demote(admin, vendor)
    admin.send("PUT", f"/admin/users/{vendor.user['id']}/role", {"role": "VENDOR"})
    request = makers.request(vendor_of(vendor))
    work()
    assert makers.reload(request).status == "initiated"


@leaves
def test_a_departed_vendors_request_is_cancelled_when_its_payment_fails(customer, vendor, admin, leaves):
    request = makers.open_request(vendor_of(vendor))
    body = {"type": "payment", "requestId": str(request.id), "metadata": {"simulate": "decline"}}
    payment = customer.post("/payments", body).json["data"]["id"]
    leaves(admin, vendor)
    work()
    assert customer.get(f"/payments/{payment}").json["data"]["status"] == "failed"
    assert [move.status for move in payments.history(request.id)][-2:] == ["initiated", "cancelled"]


def test_a_request_reopened_while_its_vendor_leaves_is_cancelled(vendor, admin, monkeypatch):
    request = makers.open_request(vendor_of(vendor))
    payment = makers.pay(request, simulate="blackout")
    work()
    close(admin, vendor)
    withdrawals = JobRow.select().where(JobRow.name == payment_endings.withdraw_requests.name)
    now, later = [row.id for row in withdrawals.order_by(JobRow.position)]
    payment_endings.withdraw_requests.perform(now)
    settle = makers.settle_job(payment, Answer(Outcome.DECLINED))
    with transaction():
        enqueue(settle)
    with monkeypatch.context() as race:
        # The transaction read the account before its closure and commits after the job.
        race.setattr(users, "active_vendors", set)
        payment_jobs.settle.perform(settle.id)
    assert makers.reload(request).status == "initiated"
    payment_endings.withdraw_requests.perform(later)
    assert makers.reload(request).status == "cancelled"


def test_a_payment_under_way_still_completes(customer, vendor, admin):
    request = makers.open_request(vendor_of(vendor))
    payment = pay(customer, request).json["data"]["id"]
    close(admin, vendor)
    work()
    assert customer.get(f"/payments/{payment}").json["data"]["status"] == "completed"
    assert makers.reload(request).status == "completed"


def test_a_former_vendor_cannot_pay_own_requests(vendor, admin):
    request = makers.open_request(vendor_of(vendor))
    demote(admin, vendor)
    assert actions(vendor, request) == []
    assert error(pay(vendor, request)) == (409, "REQUEST_NOT_PAYABLE")
    assert error(vendor.post("/payments", {"type": "initiate", "amount": 1})) == (403, "FORBIDDEN")


def test_nobody_can_pay_their_own_request(vendor, monkeypatch):
    request = makers.open_request(vendor_of(vendor))
    # A user who is vendor and customer at once.
    monkeypatch.setattr(users, "active_vendors", lambda ids: {UUID(str(id)) for id in ids})
    User.update(role=Role.CUSTOMER).where(User.id == vendor.user["id"]).execute()
    assert actions(vendor, request) == []
    result = pay(vendor, request)
    assert error(result) == (409, "REQUEST_NOT_PAYABLE")
    assert "own" in result.json["error"]["message"]


def test_a_request_above_the_maximum_amount_is_not_payable(customer, vendor, admin):
    makers.verify_email(customer)
    request = makers.open_request(vendor_of(vendor), customer_email=customer.user["email"])
    assert actions(customer, request) == ["pay"]
    assert admin.send("PUT", "/admin/config", {"payments.maxAmount": "79.99"}).status_code == 200
    config.clear_cache()
    assert actions(customer, request) == []
    assert error(pay(customer, request)) == (409, "REQUEST_NOT_PAYABLE")
    more = vendor.send("PUT", f"/payments/{request.id}", {"amount": "79.999"})
    assert error(more) == (400, "VALIDATION_ERROR")
    assert error(vendor.send("PUT", f"/payments/{request.id}", {"amount": "80"})) == (400, "VALIDATION_ERROR")
    assert vendor.send("PUT", f"/payments/{request.id}", {"amount": "79.99"}).status_code == 200
    assert pay(customer, request).status_code == 201


def test_a_request_created_while_its_vendor_leaves_is_refused(vendor, admin):
    close(admin, vendor)
    with pytest.raises(payment_jobs.NotAVendor):
        makers.request(vendor_of(vendor))
