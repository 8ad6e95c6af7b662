"""GET /payments/:id/timeline: everything about one payment, oldest first, and what is still to come."""

from datetime import datetime
from inspect import Signature
from itertools import pairwise
from typing import Any

import pytest

from api.payments import timeline
from db import config, job_journal, listed_jobs, payment_timeline, postgres
from db.users import Role
from tests import makers
from tests.counting import counted
from tests.makers import JOBS, Visitor, error, visitor, work
from tests.tables import JobRow

TRANSITIONS = ["create", "begin", "complete"]


def pay(caller: Visitor, **more: Any) -> str:
    return str(caller.post("/payments", {"type": "payment", "amount": "12.50", **more}).json["data"]["id"])


def ask(vendor: Visitor, **more: Any) -> str:
    body = {"type": "initiate", "amount": "80.00", **more}
    return str(vendor.post("/payments", body).json["data"]["id"])


def read(caller: Visitor, id: str) -> dict[str, Any]:
    result = caller.get(f"/payments/{id}/timeline")
    assert result.status_code == 200, result.text
    data: dict[str, Any] = result.json["data"]
    times = [datetime.fromisoformat(item["at"]) for item in data["items"]]
    assert all(one <= other for one, other in pairwise(times))
    to_come = [item.get("due", False) for item in data["items"]]
    assert to_come == sorted(to_come), "what is still to come is last"
    return data


def items(
    caller: Visitor, id: str, kind: str | None = None, *, due: bool | None = None
) -> list[dict[str, Any]]:
    found = read(caller, id)["items"]
    return [item for item in found if kind in (None, item["kind"]) and due in (None, item.get("due", False))]


def titles(found: list[dict[str, Any]]) -> list[str]:
    return [item["title"] for item in found]


def is_about_a_payment(job: Any) -> bool:
    """Whether the arguments of a job are about one payment."""
    arguments = getattr(job, "_entry", None)
    names = arguments.model_fields if arguments else getattr(job, "_signature", Signature()).parameters
    return "payment_id" in names


def begin(id: str) -> None:
    """Does the first job of a payment, and no other."""
    JOBS["payments.begin"].perform(job_journal.id_for_key("payments.begin", id))


# --- what has happened ----------------------------------------------------------------------------------


def test_an_administrator_sees_everything_about_a_payment(customer, admin):
    id = pay(customer)
    work()
    found = items(admin, id)
    assert {item["kind"] for item in found} == {"transition", "pspCall", "event", "audit", "mail"}
    assert all(item["title"] and item.keys() == {"at", "kind", "title", "data"} for item in found)
    assert read(admin, id)["omitted"] == []


def test_the_transitions_say_from_where_to_where_and_why(customer, admin):
    id = pay(customer, metadata={"simulate": "decline:expired_card"})
    work()
    assert [item["data"] for item in items(admin, id, "transition")] == [
        {"transition": "create", "from": None, "to": "pending", "reason": None},
        {"transition": "begin", "from": "pending", "to": "processing", "reason": None},
        {"transition": "fail", "from": "processing", "to": "failed", "reason": "expired_card"},
    ]


def test_a_psp_call_has_its_end_its_outcome_and_its_key(customer, admin):
    id = pay(customer, metadata={"simulate": "decline:expired_card"})
    work()
    [call] = items(admin, id, "pspCall")
    assert call["title"] == "The PSP declined the payment"
    assert call["data"].pop("endedAt") >= call["at"]
    assert call["data"] == {
        **{"operation": "charge", "idempotencyKey": id, "outcome": "declined", "code": "expired_card"}
    }


def test_an_inquiry_that_finds_a_lost_charge_is_shown(customer, admin):
    id = pay(customer, metadata={"simulate": "timeout"})
    work()
    assert titles(items(admin, id, "pspCall")) == [
        "The PSP did not answer the charge",
        "The PSP confirmed that it had charged the payment",
    ]


def test_an_event_has_its_number_and_whether_it_is_published(customer, admin):
    id = pay(customer)
    work()
    found = [item["data"] for item in items(admin, id, "event")]
    types = [f"payments:payment:{name}" for name in ("created", "updated", "updated", "completed")]
    assert [data["type"] for data in found] == types
    numbers = [data["seq"] for data in found]
    assert numbers == sorted(numbers)
    assert {data["published"] for data in found} == {True}

    postgres.rows("UPDATE admin.event_publication SET seq = %s", numbers[1])
    assert [item["data"]["published"] for item in items(admin, id, "event")] == [True, True, False, False]


def test_an_audit_entry_has_its_action_and_who_did_it(customer, vendor, admin):
    id = ask(vendor)
    work()
    admin.post(f"/payments/{id}/status", {"status": "cancelled", "reason": "Ordered twice"})
    work()
    last = items(admin, id, "audit")[-1]["data"]
    assert (last["action"], last["userId"]) == ("payments.payment.cancel", admin.user["id"])
    assert last["details"]["reason"] == "Ordered twice"


def test_the_mails_that_were_sent_are_shown_without_an_address(customer, vendor, admin):
    request = ask(vendor)
    work()
    id = str(customer.post("/payments", {"type": "payment", "requestId": request}).json["data"]["id"])
    work()
    found = items(admin, id, "mail")
    assert sorted(titles(found)) == ["The mail to the payee was sent", "The mail to the payer was sent"]
    assert "@" not in str(found)


# --- what is still to come ------------------------------------------------------------------------------


def test_the_first_job_of_a_payment_is_due(customer, admin):
    id = pay(customer)
    [job, reconciler] = items(admin, id, due=True)
    assert (job["kind"], job["title"]) == ("job", "The start of the payment is due")
    assert job["data"]["name"] == "payments.begin"
    assert (job["data"]["state"], job["data"]["attempts"], job["data"]["error"]) == ("waiting", 0, None)
    assert reconciler["title"] == "The reconciler looks at the payment"


def test_a_job_that_failed_is_tried_again_at_its_time(customer, admin):
    id = pay(customer)
    begin(id)
    job_id = job_journal.id_for_key("payments.charge", id)
    job_journal.record_failure(job_id, "OSError: no route to host")
    charge = next(item for item in items(admin, id, due=True) if item["data"]["name"] == "payments.charge")
    assert charge["title"] == "The charge is tried again"
    assert (charge["data"]["state"], charge["data"]["error"]) == ("failed", "OSError: no route to host")
    row = JobRow.get_by_id(job_id)
    assert charge["at"] == row.due_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_dead_job_has_happened(customer, admin):
    id = pay(customer)
    postgres.rows("UPDATE journal.jobs SET dead_at = clock_timestamp(), error = 'KeyError: x', attempts = 20")
    [dead] = items(admin, id, "job", due=False)
    assert dead["title"] == "The start of the payment was given up after 20 attempts"
    assert (dead["data"]["state"], dead["data"]["error"]) == ("dead", "KeyError: x")


@pytest.mark.parametrize("state", ["waiting", "dead"])
def test_jobs_without_a_derived_id_are_found_too(vendor, admin, state):
    id = ask(vendor)
    work()
    vendor.send("DELETE", f"/payments/{id}")
    if state == "dead":
        postgres.rows("UPDATE journal.jobs SET dead_at = clock_timestamp() WHERE name = 'payments.cancel'")
    [job] = [item for item in items(admin, id, "job") if item["data"]["name"] == "payments.cancel"]
    assert job["data"]["state"] == state


@pytest.mark.parametrize(("status", "name"), [("cancelled", "payments.cancel"), ("failed", "payments.fail")])
def test_a_job_is_found_however_long_its_reason(vendor, admin, status, name):
    id = ask(vendor)
    work()
    admin.post(f"/payments/{id}/status", {"status": status, "reason": "late " * 100})
    assert name in [item["data"]["name"] for item in items(admin, id, "job", due=True)]


@pytest.mark.parametrize("simulate", ["approve", "decline"])
@pytest.mark.usefixtures("late")
def test_a_decision_that_waits_to_be_settled_is_shown(customer, admin, simulate):
    id = pay(customer, metadata={"simulate": simulate})
    begin(id)
    JOBS["payments.charge"].handle(job_journal.id_for_key("payments.charge", id))
    names = [item["data"]["name"] for item in items(admin, id, due=True)]
    assert names == ["payments.settle", "payments.reconcile"]


def test_the_next_job_is_found_behind_any_number_of_others(customer, admin, monkeypatch):
    limit = f"LIMIT {listed_jobs.SEARCHED}"
    assert payment_timeline.FIND.count(limit) == payment_timeline.FIND.count("args FROM journal.jobs") == 3
    monkeypatch.setattr(payment_timeline, "FIND", payment_timeline.FIND.replace(limit, "LIMIT 0"))
    assert "The start of the payment is due" in titles(items(admin, pay(customer), due=True))


def test_a_mail_that_waits_is_due(customer, admin):
    id = pay(customer)
    while job := makers.first_job() or makers.deliver_events():
        if isinstance(job, makers.WaitingJob):
            if job.name.startswith("mail."):
                break
            JOBS[job.name].perform(job.id)
    assert titles(items(admin, id, due=True)) == ["The mail about the outcome is due"]


def test_an_open_request_has_the_time_of_its_expiry(vendor, admin):
    id = ask(vendor)
    work()
    [expiry] = items(admin, id, due=True)
    assert expiry["title"] == "The request expires unless it is paid"
    hours = config.number(config.ConfigKey.PAYMENTS_REQUEST_TTL_HOURS)
    created = vendor.get(f"/payments/{id}").json["data"]["createdAt"]
    lifetime = datetime.fromisoformat(expiry["at"]) - datetime.fromisoformat(created)
    assert lifetime.total_seconds() == float(hours) * 3600


def test_nothing_is_to_come_of_a_payment_that_has_ended(customer, admin):
    id = pay(customer)
    work()
    assert items(admin, id, due=True) == []


# --- who sees what --------------------------------------------------------------------------------------


def test_a_customer_sees_transitions_and_when_something_is_to_come(customer):
    id = pay(customer)
    begin(id)
    found = read(customer, id)["items"]
    happened = [item for item in found if "due" not in item]
    assert [(item["kind"], item["data"]["transition"]) for item in happened] == [
        ("transition", "create"),
        ("transition", "begin"),
    ]
    to_come = [item for item in found if "due" in item]
    assert to_come
    for item in to_come:
        assert item.keys() == {"at", "kind", "title", "data", "due"}
        assert (item["kind"], item["title"], item["data"]) == ("job", "Something is still to come", {})


def test_a_customer_does_not_see_a_dead_job(customer):
    id = pay(customer)
    postgres.rows("UPDATE journal.jobs SET dead_at = clock_timestamp()")
    assert {item["kind"] for item in items(customer, id, due=False)} == {"transition"}


def test_the_timeline_of_another_customers_payment_is_hidden(client, customer, vendor, admin):
    id = pay(customer)
    link = ask(vendor)
    work()
    for caller, hidden in ((visitor(client), id), (vendor, id), (visitor(client, Role.VENDOR), link)):
        assert error(caller.get(f"/payments/{hidden}/timeline")) == (404, "NOT_FOUND")
    # Whoever has the link may read the request, but not who has tried to pay it.
    assert customer.get(f"/payments/{link}").status_code == 200
    assert error(customer.get(f"/payments/{link}/timeline")) == (404, "NOT_FOUND")
    missing = "00000000-0000-0000-0000-000000000000"
    assert error(admin.get(f"/payments/{missing}/timeline")) == (404, "NOT_FOUND")


def test_a_vendor_sees_the_timeline_of_a_payment_of_their_request(customer, vendor):
    request = ask(vendor)
    work()
    id = str(customer.post("/payments", {"type": "payment", "requestId": request}).json["data"]["id"])
    work()
    for payment in (id, request):
        assert {item["kind"] for item in items(vendor, payment)} == {"transition"}


# --- size, cost, cache ----------------------------------------------------------------------------------


def test_the_newest_of_each_kind_are_shown_and_the_kinds_that_are_cut_named(customer, admin, monkeypatch):
    id = pay(customer)
    work()
    monkeypatch.setattr(timeline, "ITEMS_OF_A_KIND", 2)
    data = read(admin, id)
    shown = [item["data"]["transition"] for item in data["items"] if item["kind"] == "transition"]
    assert shown == TRANSITIONS[1:]
    assert set(data["omitted"]) == {"transition", "event", "audit"}
    assert read(customer, id)["omitted"] == ["transition"]


def test_a_timeline_costs_two_statements(customer, admin, lasting_caches):
    id = pay(customer)
    for caller in (customer, admin):
        read(caller, id)
        with counted() as asked:
            read(caller, id)
        assert len(asked.statements) == 2


def test_an_unchanged_timeline_is_not_sent_again(customer, admin):
    id = pay(customer)
    for caller in (customer, admin):
        etag = caller.get(f"/payments/{id}/timeline").headers["ETag"]
        again = caller.get(f"/payments/{id}/timeline", headers={"If-None-Match": etag})
        assert again.status_code == 304
    work()
    assert customer.get(f"/payments/{id}/timeline", headers={"If-None-Match": etag}).status_code == 200


def test_every_job_about_a_payment_has_words():
    about_payments = {name for name, job in JOBS.items() if is_about_a_payment(job)}
    assert about_payments == timeline.JOBS.keys()
