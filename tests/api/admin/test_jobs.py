"""An administrator lists jobs, retries those that failed and drops dead ones; each act is audited."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from actors import account_erasure, audit, job_operations, mail
from actors.audit import AuditAction
from actors.batch_jobs import BatchEntry
from actors.jobs import QueueName, SingleJob, enqueue, load_all, transaction
from db import audit_log, job_journal, listed_jobs, postgres
from db.one_time_tokens import Purpose
from tests import makers
from tests.makers import error, invalid_fields, work

STATES = ("waiting", "running", "failed", "dead")


@pytest.fixture(autouse=True)
def no_other_jobs(database):
    postgres.rows("DELETE FROM journal.jobs")


def job(state: str = "waiting", user_id: UUID | None = None) -> str:
    """A job in this state: to erase an account."""
    job = account_erasure.erase.job(user_id or uuid4())
    with transaction():
        enqueue(job)
    set_state(job.id, state)
    return str(job.id)


def set_state(id: UUID | str, state: str) -> None:
    changes: dict[str, str] = {
        "waiting": "error = NULL",
        "running": "leased_until = clock_timestamp() + interval '1 minute'",
        "failed": "error = 'it broke', sent_at = '-infinity', due_at = clock_timestamp() + interval '1 minute'",
        "dead": "error = 'it broke', attempts = 20, dead_at = clock_timestamp()",
    }
    postgres.rows(f"UPDATE journal.jobs SET {changes[state]} WHERE id = %s", id)


def listed(admin, query: str = "") -> list[str]:
    return [item["id"] for item in admin.get(f"/admin/jobs?{query}").json["data"]["items"]]


def entries(action: str) -> list[audit_log.AuditLog]:
    work()
    return list(audit_log.AuditLog.select().where(audit_log.AuditLog.action == action))


def test_a_job_is_shown_with_what_an_operator_needs(admin):
    payment = makers.payment()
    [item] = admin.get("/admin/jobs?name=payments.begin").json["data"]["items"]
    assert item == {
        "id": str(job_journal.id_for_key("payments.begin", str(payment.id))),
        "name": "payments.begin",
        "queue": "payments",
        "state": "waiting",
        "paymentId": str(payment.id),
        "args": {"paymentId": str(payment.id)},
        "attempts": 0,
        "error": None,
        "enqueuedAt": item["enqueuedAt"],
        "dueAt": item["dueAt"],
        "deadAt": None,
        "requestId": item["requestId"],
    }
    assert admin.get(f"/admin/jobs/{item['id']}").json["data"] == item


def test_each_state_has_its_list(admin):
    ids = {state: job(state) for state in STATES}
    for state, id in ids.items():
        assert listed(admin, f"state={state}") == [id]
        assert admin.get(f"/admin/jobs/{id}").json["data"]["state"] == state
    # Newest first.
    assert listed(admin) == list(reversed(ids.values()))


def test_jobs_are_found_by_queue_name_and_payment(admin):
    erasure, payment = job(), makers.payment()
    makers.payment()
    begin = str(job_journal.id_for_key("payments.begin", str(payment.id)))
    assert listed(admin, "queue=housekeeping") == [erasure]
    assert listed(admin, "name=accounts.erase") == [erasure]
    assert listed(admin, f"paymentId={payment.id}") == [begin]
    assert listed(admin, f"paymentId={payment.id}&queue=housekeeping") == []
    assert listed(admin, f"paymentId={payment.id}&state=dead") == []
    assert listed(admin, "name=no.such.job") == []


def test_the_cancellation_of_a_payment_is_found_however_long_its_reason(admin):
    payment = makers.open_request()
    reason = "ordered twice " * 35
    admin.post(f"/payments/{payment.id}/status", {"status": "cancelled", "reason": reason})
    [item] = admin.get(f"/admin/jobs?paymentId={payment.id}").json["data"]["items"]
    assert (item["name"], item["args"]["reason"]) == ("payments.cancel", reason)


def test_a_job_of_a_payment_is_found_behind_any_number_of_others(admin, monkeypatch):
    monkeypatch.setattr(
        listed_jobs, "SEARCH", listed_jobs.SEARCH.replace(f"LIMIT {listed_jobs.SEARCHED}", "LIMIT 0")
    )
    payment = makers.payment()
    assert len(listed(admin, f"paymentId={payment.id}")) == 1


def test_unknown_filters_are_refused(admin):
    assert invalid_fields(admin.get("/admin/jobs?queue=nope&state=odd&paymentId=7&cursor=x")) == {
        "queue",
        "state",
        "paymentId",
        "cursor",
    }


PAGED = [
    "",
    "state=waiting",
    "state=running",
    "state=failed",
    "state=dead",
    "name=accounts.erase",
    "queue=housekeeping",
]


@pytest.mark.parametrize("query", PAGED)
def test_pages_neither_skip_nor_repeat_while_jobs_arrive(admin, query):
    state = query.partition("state=")[2] or "waiting"
    ids = [job(state) for _ in range(5)]
    seen, cursor = [], ""
    for _ in range(3):
        data = admin.get(f"/admin/jobs?limit=2&{query}{cursor}").json["data"]
        seen += [item["id"] for item in data["items"]]
        cursor = f"&cursor={data['pagination']['nextCursor']}"
        job(state)
    assert seen == ids[::-1]
    assert data["pagination"]["nextCursor"] is None


def test_the_queue_names_are_those_of_the_jobs():
    ours = {kind.queue for name, kind in load_all().items() if not name.startswith("test_")}
    assert ours == set(QueueName)


def test_secrets_and_personal_data_in_arguments_are_hidden(admin):
    with transaction():
        enqueue(mail.request_password_reset.job("ada@example.com"))
        enqueue(mail.notify_old_address.job(uuid4(), "ada@example.com", uuid4()))
        enqueue(mail.send_link.job(uuid4(), Purpose.RESET_PASSWORD, UUID(int=7)))
        audit.record(AuditAction.PROFILE_UPDATED, details={"phone": "+4930123456"})
    text = admin.get("/admin/jobs").text
    assert "ada@example.com" not in text
    assert str(UUID(int=7)) not in text
    assert "+4930123456" not in text
    # What the mail is for is no secret.
    assert Purpose.RESET_PASSWORD in text


# `id` names a mailed link, from which its token is derived; `name` is the address of a picture.
HIDDEN = {"after", "audit_entries", "by", "email", "events", "id", "lines", "more", "name"}


def test_every_argument_of_every_job_is_either_shown_or_hidden():
    classified = job_operations.SHOWN | HIDDEN
    for name, kind in load_all().items():
        if name.startswith("test_"):
            continue
        entry: Any = getattr(kind, "_entry", BatchEntry)
        own = kind._signature.parameters if isinstance(kind, SingleJob) else entry.model_fields
        # What every batch entry has is a column of the job.
        names = set(own) - (set() if isinstance(kind, SingleJob) else set(BatchEntry.model_fields))
        assert names <= classified, f"{name} has an argument that is neither shown nor known to be hidden"
    assert not job_operations.SHOWN & HIDDEN


def test_an_argument_that_nobody_classified_is_hidden():
    shown = job_operations.shown_arguments(
        "any", {"iban": "DE89", "lines": [1, 2], "payment_id": "7", "reason": None}
    )
    assert shown == {"iban": "[hidden]", "lines": "[2 hidden]", "paymentId": "7", "reason": None}


def test_a_dead_job_is_retried_with_new_attempts(admin):
    id = job("dead")
    assert admin.post(f"/admin/jobs/{id}/retry").json["data"] == {"retried": 1}
    shown = admin.get(f"/admin/jobs/{id}").json["data"]
    assert (shown["state"], shown["attempts"], shown["error"], shown["deadAt"]) == ("waiting", 0, None, None)
    [entry] = entries("admin.job.retried")
    assert (str(entry.resource_id), entry.details) == (id, {"job": "accounts.erase"})
    assert str(entry.user_id) == admin.user["id"]


def test_a_failed_job_is_due_at_once_when_it_is_retried(admin):
    id = job("failed")
    assert admin.post(f"/admin/jobs/{id}/retry").status_code == 200
    assert postgres.rows("SELECT FROM journal.jobs WHERE id = %s AND due_at <= clock_timestamp()", id)
    # It has still failed, and has as many attempts left as before.
    assert admin.get(f"/admin/jobs/{id}").json["data"]["error"] == "it broke"


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_a_job_that_did_not_fail_is_not_retried(admin, state):
    result = admin.post(f"/admin/jobs/{job(state)}/retry")
    assert error(result) == (409, "INVALID_TRANSITION")
    assert result.json["error"]["details"] == {"state": state}
    assert entries("admin.job.retried") == []


def test_a_job_that_is_done_is_not_found(admin):
    for result in (
        admin.get(f"/admin/jobs/{uuid4()}"),
        admin.post(f"/admin/jobs/{uuid4()}/retry"),
        admin.send("DELETE", f"/admin/jobs/{uuid4()}"),
    ):
        assert error(result) == (404, "NOT_FOUND")


def test_all_dead_jobs_of_a_name_are_retried_with_one_audit_entry(admin):
    dead = [job("dead") for _ in range(3)]
    failed, other = job("failed"), makers.payment()
    set_state(job_journal.id_for_key("payments.begin", str(other.id)), "dead")
    assert admin.post("/admin/jobs/retry", {"name": "accounts.erase"}).json["data"] == {"retried": 3}
    assert set(listed(admin, "state=waiting&name=accounts.erase")) == set(dead)
    assert listed(admin, "state=failed") == [failed]
    assert len(listed(admin, "state=dead")) == 1
    [entry] = entries("admin.job.retried")
    assert entry.details == {"job": "accounts.erase", "count": 3}


def test_many_dead_jobs_are_retried_in_batches(admin, monkeypatch):
    monkeypatch.setattr(job_operations, "RETRY_BATCH", 2)
    for _ in range(5):
        job("dead")
    assert admin.post("/admin/jobs/retry", {"name": "accounts.erase"}).json["data"] == {"retried": 5}
    assert [entry.details["count"] for entry in entries("admin.job.retried")] == [2, 2, 1]


def test_a_dead_job_is_dropped(admin):
    id = job("dead")
    assert admin.send("DELETE", f"/admin/jobs/{id}").status_code == 200
    assert error(admin.get(f"/admin/jobs/{id}")) == (404, "NOT_FOUND")
    [entry] = entries("admin.job.dropped")
    assert (str(entry.resource_id), entry.details) == (id, {"job": "accounts.erase"})


@pytest.mark.parametrize("state", ["waiting", "running", "failed"])
def test_a_job_that_may_still_be_done_is_not_dropped(admin, state):
    id = job(state)
    result = admin.send("DELETE", f"/admin/jobs/{id}")
    assert error(result) == (409, "INVALID_TRANSITION")
    assert result.json["error"]["details"] == {"state": state}
    assert admin.get(f"/admin/jobs/{id}").status_code == 200


def test_in_maintenance_jobs_are_seen_and_not_changed(admin):
    id = job("dead")
    admin.send("PUT", "/admin/config", {"maintenance.readOnly": True})
    assert admin.get(f"/admin/jobs/{id}").status_code == 200
    assert admin.post(f"/admin/jobs/{id}/retry").status_code == 503
    assert admin.send("DELETE", f"/admin/jobs/{id}").status_code == 503
