"""Whose requests can be paid: a vendor's whose account is open, within the limits, and by another person."""

from uuid import UUID

import pytest

from actors import payment_endings, payment_jobs
from actors.jobs import enqueue, transaction
from actors.psp.provider import Outcome
from db import audit_log, config, event_log, job_journal, payments, users
from db.payments import Payment
from db.users import Role, User
from tests import makers
from tests.makers import Visitor, error, work


def vendor_of(who: Visitor) -> User:
    return User.get_by_id(who.user["id"])


def pay(who: Visitor, request: Payment):
    return who.post("/payments", {"type": "payment", "requestId": str(request.id)})


def close(boss: Visitor, who: Visitor) -> None:
    assert boss.send("DELETE", f"/admin/users/{who.user['id']}").status_code == 200


def demote(boss: Visitor, who: Visitor) -> None:
    result = boss.send("PUT", f"/admin/users/{who.user['id']}/role", {"role": "CUSTOMER"})
    assert result.status_code == 200


def suspend(boss: Visitor, who: Visitor) -> None:
    assert boss.send("PUT", f"/admin/users/{who.user['id']}", {"active": False}).status_code == 200


leaves = pytest.mark.parametrize("leaves", [close, demote, suspend])


def actions(who: Visitor, request: Payment) -> list[str]:
    [alone] = [who.get(f"/payments/{request.id}").json["data"]["allowedActions"]]
    listed = {it["id"]: it["allowedActions"] for it in who.get("/payments").json["data"]["items"]}
    assert listed[str(request.id)] == alone
    return alone


@leaves
def test_the_open_requests_of_a_vendor_who_leaves_are_cancelled(customer, vendor, boss, leaves):
    opened, others = makers.open_request(vendor_of(vendor)), makers.open_request()
    pending = makers.request(vendor_of(vendor))
    leaves(boss, vendor)
    assert error(pay(customer, opened)) == (409, "REQUEST_NOT_PAYABLE"), (
        "at once, and not when the job is done"
    )
    assert "payments.withdraw_requests" in work()
    for request in (opened, pending):
        assert makers.reload(request).status == "cancelled"
        last = payments.history(request.id)[-1]
        assert (last.reason, str(last.actor_id)) == ("its vendor takes no payments any more", boss.user["id"])
        cancelled = [
            line for line in audit_log.of_resource(request.id) if line.action == "payments.payment.cancel"
        ]
        assert [str(line.user_id) for line in cancelled] == [boss.user["id"]]
        kinds = [event.type for event in event_log.after(0, 1000) if event.data["id"] == str(request.id)]
        assert kinds[-1] == "payments:payment:updated"
    assert error(pay(customer, opened)) == (409, "REQUEST_NOT_PAYABLE")
    assert pay(customer, others).status_code == 201


def test_they_are_cancelled_so_many_at_a_time(vendor, boss, monkeypatch):
    monkeypatch.setattr(payment_endings, "REQUEST_BATCH", 2)
    requests = [makers.request(vendor_of(vendor)) for _ in range(5)]
    close(boss, vendor)
    # Once more for what is opened again meanwhile.
    assert work().count("payments.withdraw_requests") == 3 + 1
    assert {makers.reload(request).status for request in requests} == {"cancelled"}


def test_what_a_vendor_asks_for_who_is_one_again_stays_open(vendor, boss):
    demote(boss, vendor)
    boss.send("PUT", f"/admin/users/{vendor.user['id']}/role", {"role": "VENDOR"})
    request = makers.request(vendor_of(vendor))
    work()
    assert makers.reload(request).status == "initiated"


@leaves
def test_a_request_that_was_being_paid_is_cancelled_when_its_payment_fails(customer, vendor, boss, leaves):
    request = makers.open_request(vendor_of(vendor))
    body = {"type": "payment", "requestId": str(request.id), "metadata": {"simulate": "decline"}}
    payment = customer.post("/payments", body).json["data"]["id"]
    leaves(boss, vendor)
    work()
    assert customer.get(f"/payments/{payment}").json["data"]["status"] == "failed"
    assert [move.status for move in payments.history(request.id)][-2:] == ["initiated", "cancelled"]


def test_a_request_that_is_opened_again_just_as_its_vendor_leaves_is_cancelled(vendor, boss, monkeypatch):
    request = makers.open_request(vendor_of(vendor))
    payment = makers.pay(request, simulate="blackout")
    work()
    close(boss, vendor)
    withdrawals = job_journal.JobRow.select().where(
        job_journal.JobRow.name == payment_endings.withdraw_requests.name
    )
    now, later = [row.id for row in withdrawals.order_by(job_journal.JobRow.position)]
    payment_endings.withdraw_requests.perform(now)
    settle = payment_jobs.settle.job(payment.id, Outcome.DECLINED, None)
    with transaction():
        enqueue(settle)
    with monkeypatch.context() as race:
        # It looked before the account was closed, and commits after the job.
        race.setattr(users, "active_vendors", set)
        payment_jobs.settle.perform(settle.id)
    assert makers.reload(request).status == "initiated"
    payment_endings.withdraw_requests.perform(later)
    assert makers.reload(request).status == "cancelled"


def test_money_that_was_on_its_way_still_arrives(customer, vendor, boss):
    request = makers.open_request(vendor_of(vendor))
    payment = pay(customer, request).json["data"]["id"]
    close(boss, vendor)
    work()
    assert customer.get(f"/payments/{payment}").json["data"]["status"] == "completed"
    assert makers.reload(request).status == "completed"


def test_who_is_no_vendor_any_more_sees_their_requests_and_pays_none_of_them(vendor, boss):
    request = makers.open_request(vendor_of(vendor))
    demote(boss, vendor)
    assert actions(vendor, request) == []
    assert error(pay(vendor, request)) == (409, "REQUEST_NOT_PAYABLE")
    assert error(vendor.post("/payments", {"type": "initiate", "amount": 1})) == (403, "FORBIDDEN")


def test_nobody_pays_their_own_request(vendor, monkeypatch):
    request = makers.open_request(vendor_of(vendor))
    # However they came to be both.
    monkeypatch.setattr(users, "active_vendors", lambda ids: {UUID(str(id)) for id in ids})
    User.update(role=Role.CUSTOMER).where(User.id == vendor.user["id"]).execute()
    assert actions(vendor, request) == []
    result = pay(vendor, request)
    assert error(result) == (409, "REQUEST_NOT_PAYABLE")
    assert "own" in result.json["error"]["message"]


def test_a_request_that_is_above_the_largest_amount_by_now_is_not_paid(customer, vendor, boss):
    makers.verify_email(customer)
    request = makers.open_request(vendor_of(vendor), customer_email=customer.user["email"])
    assert actions(customer, request) == ["pay"]
    assert boss.send("PUT", "/admin/config", {"payments.maxAmount": "79.99"}).status_code == 200
    config.clear_cache()
    assert actions(customer, request) == []
    assert error(pay(customer, request)) == (409, "REQUEST_NOT_PAYABLE")
    more = vendor.send("PUT", f"/payments/{request.id}", {"amount": "79.999"})
    assert error(more) == (400, "VALIDATION_ERROR")
    assert error(vendor.send("PUT", f"/payments/{request.id}", {"amount": "80"})) == (400, "VALIDATION_ERROR")
    assert vendor.send("PUT", f"/payments/{request.id}", {"amount": "79.99"}).status_code == 200
    assert pay(customer, request).status_code == 201


def test_what_may_be_done_with_a_page_of_requests_costs_one_question(customer, vendor, monkeypatch):
    makers.verify_email(customer)
    for _ in range(5):
        makers.open_request(vendor_of(vendor), customer_email=customer.user["email"])
    asked = []
    real = users.active_vendors

    def vendors(ids):
        asked.append(ids)
        return real(ids)

    monkeypatch.setattr(users, "active_vendors", vendors)
    assert len(customer.get("/payments").json["data"]["items"]) == 5
    assert len(asked) == 1


def test_a_request_that_is_made_as_its_vendor_leaves_is_refused(vendor, boss):
    close(boss, vendor)
    with pytest.raises(payment_jobs.NotAVendor):
        makers.request(vendor_of(vendor))
