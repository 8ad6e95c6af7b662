"""Reading and verifying the audit log."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic_core import to_jsonable_python

from actors import audit, invariant_checks
from actors.audit import AuditAction
from api.admin import audit_logs
from db import audit_chain, postgres
from db.core import times
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, registered, work


@pytest.fixture
def admin(client) -> Visitor:
    admin = registered(client, Role.ADMIN)
    work()
    return admin


COLUMNS: dict[str, Any] = {
    "user_id": None,
    "action": AuditAction.PAYMENT_CANCEL,
    "resource_type": "payment",
    "resource_id": None,
    "details": {},
    "ip_address": None,
    "user_agent": None,
    "request_id": None,
    "created_at": makers.MOMENT,
}


def record(minutes: int = 0, **more: Any) -> str:
    """Appends a row, this many minutes after noon, and returns its id."""
    moment = makers.MOMENT + timedelta(minutes=minutes)
    entry = to_jsonable_python(COLUMNS | {"id": uuid4(), "created_at": moment} | more)
    audit_chain.append([entry])
    return str(entry["id"])


def entries(user: Visitor, query: str = "") -> list[dict[str, Any]]:
    result = user.get(f"/admin/audit-logs{query}")
    assert result.status_code == 200, result.text
    items: list[dict[str, Any]] = result.json["data"]["items"]
    return items


def ids(user: Visitor, query: str) -> list[str]:
    return [entry["id"] for entry in entries(user, query)]


def verify(user: Visitor) -> dict[str, Any]:
    result = user.get("/admin/audit-logs/verify")
    assert result.status_code == 200, result.text
    data: dict[str, Any] = result.json["data"]
    return data


def behind_our_back(sql: str, *params: Any) -> None:
    postgres.rows("SET LOCAL session_replication_role = replica")
    assert postgres.rows(f"{sql} RETURNING 1", *params)
    postgres.rows("SET LOCAL session_replication_role = origin")


# --- entries ---------------------------------------------------------------------------------------


def test_an_entry_has_user_resource_client_and_request(client, admin):
    vendor = registered(client, Role.VENDOR)
    sent = {"X-Request-ID": "chairs-1", "User-Agent": "till/1.0"}
    body = {"type": "initiate", "amount": "80.00"}
    id = vendor.post("/payments", body, headers=sent).json["data"]["id"]
    work()
    begun, created = entries(admin, f"?resourceId={id}")
    assert list(created) == [
        *("id", "userId", "action", "resourceType", "resourceId"),
        *("details", "ipAddress", "userAgent", "requestId", "createdAt"),
    ]
    assert (created["action"], created["userId"]) == ("payments.payment.create", vendor.user["id"])
    assert (created["resourceType"], created["resourceId"]) == ("payment", id)
    assert (created["ipAddress"], created["userAgent"]) == ("127.0.0.1", "till/1.0")
    assert created["requestId"] == begun["requestId"] == "chairs-1"
    # Done by a worker, not by the user.
    assert (begun["action"], begun["userId"]) == ("payments.payment.begin", None)
    assert begun["details"]["to"] == "initiated"


def test_a_refusal_for_lack_of_a_role_is_audited(client, admin):
    customer = registered(client)
    assert error(customer.get("/admin/audit-logs")) == (403, "FORBIDDEN")
    work()
    [refused] = entries(admin, f"?userId={customer.user['id']}&action=auth.access.refused")
    assert refused["userId"] == customer.user["id"]


@pytest.mark.parametrize("role", [Role.VENDOR, Role.CUSTOMER])
@pytest.mark.parametrize("path", ["/admin/audit-logs", "/admin/audit-logs/verify"])
def test_only_admins_read_the_audit_log(client, role, path):
    assert error(registered(client, role).get(path)) == (403, "FORBIDDEN")
    assert error(Visitor(client).get(path)) == (401, "UNAUTHORIZED")


def test_reading_the_audit_log_writes_nothing(admin):
    before = verify(admin)
    entries(admin)
    work()
    assert verify(admin) == before


def test_rows_that_the_application_did_not_write_are_listed(admin):
    behind_our_back(
        "INSERT INTO admin.audit_logs (action, details, created_at) VALUES ('unknown action', '[1]', clock_timestamp())"
    )
    assert (entries(admin)[0]["action"], entries(admin)[0]["details"]) == ("unknown action", [1])


# --- filters --------------------------------------------------------------------------------------------


def test_filters_narrow_the_list(admin):
    one, other, thing = str(makers.user().id), str(makers.user().id), str(uuid4())
    a = record(0, user_id=one, resource_id=thing)
    b = record(1, user_id=other, resource_id=thing, action=AuditAction.PAYMENT_FAIL)
    c = record(2, user_id=one, resource_type="user")
    assert ids(admin, f"?userId={one}") == [c, a]
    assert ids(admin, "?action=payments.payment.fail") == [b]
    assert ids(admin, f"?resourceId={thing}") == [b, a]
    assert c not in ids(admin, "?resourceType=payment")
    assert ids(admin, f"?resourceType=user&userId={one}") == [c]
    assert ids(admin, f"?userId={one}&resourceId={thing}&action=payments.payment.cancel") == [a]
    assert ids(admin, f"?userId={other}&resourceType=user") == []
    assert ids(admin, f"?userId={uuid4()}") == []


def test_from_is_inclusive_and_to_is_exclusive(admin):
    at = [record(minutes) for minutes in range(4)]
    moments = [times.iso(makers.MOMENT + timedelta(minutes=minutes)) for minutes in range(4)]
    assert ids(admin, f"?from={moments[1]}&to={moments[3]}") == [at[2], at[1]]
    assert ids(admin, f"?to={moments[1]}") == [at[0]]
    assert ids(admin, f"?from={moments[2]}&resourceType=payment") == [at[3], at[2]]
    assert ids(admin, f"?from={moments[2]}&to={moments[2]}") == []


def test_entries_of_earlier_releases_are_found_by_the_name_of_today(admin):
    id = record(action="payments.step.refused")
    [found] = entries(admin, "?action=payments.transition.refused")
    assert (found["id"], found["action"]) == (id, "payments.step.refused")


def test_every_action_can_be_filtered_by(admin):
    for action in AuditAction:
        assert all(entry["action"] == action for entry in entries(admin, f"?action={action}"))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("action=payments.payment.canceled", "action"),
        ("userId=me", "userId"),
        ("resourceId=1", "resourceId"),
        ("resourceType=%00", "resourceType"),
        (f"resourceType={'x' * 51}", "resourceType"),
        ("from=yesterday", "from"),
        ("to=2026-01-31", "to"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
        ("page=2", "page"),
    ],
)
def test_an_invalid_filter_is_refused(admin, query, field):
    result = admin.get(f"/admin/audit-logs?{query}")
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == [field]


# --- pages ----------------------------------------------------------------------------------------------


def test_pages_neither_skip_nor_repeat_while_rows_arrive(admin):
    thing = str(uuid4())
    # Two rows share each timestamp.
    before = [record(n // 2, resource_id=thing) for n in range(11)]
    seen: list[str] = []
    cursor = ""
    while True:
        data = admin.get(f"/admin/audit-logs?resourceId={thing}&limit=3{cursor}").json["data"]
        assert data["pagination"]["limit"] == 3
        seen += [entry["id"] for entry in data["items"]]
        if not data["pagination"]["nextCursor"]:
            break
        cursor = f"&cursor={data['pagination']['nextCursor']}"
        record(60, resource_id=thing)
    assert sorted(seen) == sorted(before)
    assert seen == [entry for entry in ids(admin, f"?resourceId={thing}&limit=100") if entry in before]


def test_a_page_has_twenty_rows_by_default(admin):
    for n in range(25):
        record(n)
    assert len(entries(admin)) == 20
    assert len(entries(admin, "?limit=22")) == 22


@pytest.mark.parametrize(
    "filter", ["", "resource_type = 'payment' AND", "action = 'payments.payment.begin' AND"]
)
def test_a_page_is_read_by_an_index(database, filter):
    record()
    # For a table of one row the planner would prefer a scan and a sort.
    postgres.rows(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
    )
    plan = postgres.rows(
        f"EXPLAIN SELECT * FROM admin.audit_logs WHERE {filter} (created_at, id) < (now(), gen_random_uuid())"
        " ORDER BY created_at DESC, id DESC LIMIT 21"
    )
    steps = " ".join(row["QUERY PLAN"] for row in plan)
    assert "Index Scan Backward" in steps
    assert "Sort" not in steps


# --- verification ---------------------------------------------------------------


def test_an_unchanged_log_is_verified(admin):
    rows = verify(admin)["rows"]
    assert rows > 0
    record()
    assert verify(admin) == {"ok": True, "rows": rows + 1, "firstBroken": None}


def test_the_first_broken_row_is_named(admin):
    id = record()
    record()
    behind_our_back("UPDATE admin.audit_logs SET user_agent = 'nobody' WHERE id = %s", id)
    result = verify(admin)
    assert result["ok"] is False
    assert result["firstBroken"] == {
        "id": id,
        "reason": "this row was changed, or put in the place of another",
    }


def test_a_removed_newest_row_has_no_id(admin):
    rows = verify(admin)["rows"]
    behind_our_back("DELETE FROM admin.audit_logs WHERE id = %s", record())
    reason = "the newest row was removed"
    assert verify(admin) == {"ok": False, "rows": rows, "firstBroken": {"id": None, "reason": reason}}


def test_a_broken_audit_log_is_logged_as_an_error(admin, monkeypatch):
    logged = []
    monkeypatch.setattr(audit.log, "error", lambda event, **_more: logged.append(event), raising=False)
    verify(admin)
    assert logged == []
    behind_our_back("DELETE FROM admin.audit_logs")
    verify(admin)
    assert logged == ["audit log broken"]


def test_of_a_long_log_only_the_newest_rows_are_verified_at_once(admin, monkeypatch):
    for _ in range(4):
        record()
    rows = verify(admin)["rows"]
    monkeypatch.setattr(audit_logs, "MAX_ROWS_VERIFIED_AT_ONCE", 1)
    assert error(admin.get("/admin/audit-logs/verify")) == (503, "SERVICE_UNAVAILABLE")
    makers.enqueue_scheduled(invariant_checks.check_invariants)
    work()
    assert verify(admin) == {"ok": True, "rows": rows, "firstBroken": None}
    id = record()
    assert verify(admin) == {"ok": True, "rows": rows + 1, "firstBroken": None}
    behind_our_back("UPDATE admin.audit_logs SET details = '[]' WHERE seq = 2")
    assert verify(admin)["ok"]
    behind_our_back("UPDATE admin.audit_logs SET user_agent = 'nobody' WHERE id = %s", id)
    assert verify(admin)["firstBroken"]["id"] == id
    behind_our_back("DELETE FROM admin.audit_logs WHERE id = %s", id)
    assert verify(admin)["firstBroken"] == {"id": None, "reason": "the newest row was removed"}
    # The next verification of the whole log finds the older change.
    makers.enqueue_scheduled(invariant_checks.check_invariants)
    work()
    [second] = postgres.rows("SELECT id::text FROM admin.audit_logs WHERE seq = 2")
    assert verify(admin)["firstBroken"]["id"] == second["id"]
