"""The audit log at the door: read page by page, and verified."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from actors import audit, invariant_checks
from actors.audit import AuditAction, AuditEntry
from api.admin import audit_logs
from db import audit_chain, postgres
from db.core import times
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, registered, work


@pytest.fixture
def boss(client) -> Visitor:
    boss = registered(client, Role.ADMIN)
    work()
    return boss


def written(minutes: int = 0, **more: Any) -> str:
    """A row about something that was done so many minutes after noon: its id."""
    columns: dict[str, Any] = {
        "id": uuid4(),
        "user_id": None,
        "action": AuditAction.PAYMENT_CANCEL,
        "resource_type": "payment",
        "resource_id": None,
        "details": {},
        "ip_address": None,
        "user_agent": None,
        "request_id": None,
        "created_at": makers.MOMENT + timedelta(minutes=minutes),
    }
    line = AuditEntry(**columns | more)
    audit_chain.append([line.model_dump(mode="json")])
    return str(line.id)


def read(who: Visitor, query: str = "") -> list[dict[str, Any]]:
    result = who.get(f"/admin/audit-logs{query}")
    assert result.status_code == 200, result.text
    items: list[dict[str, Any]] = result.json["data"]["items"]
    return items


def ids(who: Visitor, query: str) -> list[str]:
    return [it["id"] for it in read(who, query)]


def verified(who: Visitor) -> dict[str, Any]:
    result = who.get("/admin/audit-logs/verify")
    assert result.status_code == 200, result.text
    data: dict[str, Any] = result.json["data"]
    return data


def behind_our_back(sql: str, *params: Any) -> None:
    postgres.rows("SET LOCAL session_replication_role = replica")
    assert postgres.rows(f"{sql} RETURNING 1", *params)
    postgres.rows("SET LOCAL session_replication_role = origin")


# --- who did what ---------------------------------------------------------------------------------------


def test_what_somebody_did_is_there_whole(client, boss):
    vendor = registered(client, Role.VENDOR)
    sent = {"X-Request-ID": "chairs-1", "User-Agent": "till/1.0"}
    wish = {"type": "initiate", "amount": "80.00"}
    id = vendor.post("/payments", wish, headers=sent).json["data"]["id"]
    work()
    begun, created = read(boss, f"?resourceId={id}")
    assert list(created) == [
        *("id", "userId", "action", "resourceType", "resourceId"),
        *("details", "ipAddress", "userAgent", "requestId", "createdAt"),
    ]
    assert (created["action"], created["userId"]) == ("payments.payment.create", vendor.user["id"])
    assert (created["resourceType"], created["resourceId"]) == ("payment", id)
    assert (created["ipAddress"], created["userAgent"]) == ("127.0.0.1", "till/1.0")
    assert created["requestId"] == begun["requestId"] == "chairs-1"
    # Nobody did it but a worker.
    assert (begun["action"], begun["userId"]) == ("payments.payment.begin", None)
    assert begun["details"]["to"] == "initiated"


def test_a_refusal_for_lack_of_a_role_is_in_it(client, boss):
    customer = registered(client)
    assert error(customer.get("/admin/audit-logs")) == (403, "FORBIDDEN")
    work()
    [refused] = read(boss, f"?userId={customer.user['id']}&action=auth.access.refused")
    assert refused["userId"] == customer.user["id"]


@pytest.mark.parametrize("role", [Role.VENDOR, Role.CUSTOMER])
@pytest.mark.parametrize("path", ["/admin/audit-logs", "/admin/audit-logs/verify"])
def test_it_is_for_administrators_alone(client, role, path):
    assert error(registered(client, role).get(path)) == (403, "FORBIDDEN")
    assert error(Visitor(client).get(path)) == (401, "UNAUTHORIZED")


def test_reading_it_writes_nothing(boss):
    before = verified(boss)
    read(boss)
    work()
    assert verified(boss) == before


def test_it_shows_also_what_the_application_did_not_write(boss):
    behind_our_back(
        "INSERT INTO admin.audit_logs (action, details, created_at) VALUES ('who knows', '[1]', clock_timestamp())"
    )
    assert (read(boss)[0]["action"], read(boss)[0]["details"]) == ("who knows", [1])


# --- filters --------------------------------------------------------------------------------------------


def test_each_filter_narrows_it_down(boss):
    one, other, thing = str(makers.user().id), str(makers.user().id), str(uuid4())
    a = written(0, user_id=one, resource_id=thing)
    b = written(1, user_id=other, resource_id=thing, action=AuditAction.PAYMENT_FAIL)
    c = written(2, user_id=one, resource_type="user")
    assert ids(boss, f"?userId={one}") == [c, a]
    assert ids(boss, "?action=payments.payment.fail") == [b]
    assert ids(boss, f"?resourceId={thing}") == [b, a]
    assert c not in ids(boss, "?resourceType=payment")
    assert ids(boss, f"?resourceType=user&userId={one}") == [c]
    assert ids(boss, f"?userId={one}&resourceId={thing}&action=payments.payment.cancel") == [a]
    assert ids(boss, f"?userId={other}&resourceType=user") == []
    assert ids(boss, f"?userId={uuid4()}") == []


def test_from_is_included_and_to_is_not(boss):
    at = [written(minutes) for minutes in range(4)]
    moments = [times.iso(makers.MOMENT + timedelta(minutes=minutes)) for minutes in range(4)]
    assert ids(boss, f"?from={moments[1]}&to={moments[3]}") == [at[2], at[1]]
    assert ids(boss, f"?to={moments[1]}") == [at[0]]
    assert ids(boss, f"?from={moments[2]}&resourceType=payment") == [at[3], at[2]]
    assert ids(boss, f"?from={moments[2]}&to={moments[2]}") == []


def test_every_action_of_the_catalogue_is_a_filter(boss):
    for action in AuditAction:
        assert all(it["action"] == action for it in read(boss, f"?action={action}"))


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
def test_a_slip_of_the_pen_is_told(boss, query, field):
    result = boss.get(f"/admin/audit-logs?{query}")
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [it["field"] for it in result.json["error"]["details"]["fields"]] == [field]


# --- pages ----------------------------------------------------------------------------------------------


def test_pages_neither_skip_nor_repeat_while_the_log_goes_on(boss):
    thing = str(uuid4())
    # Every other two at the same moment.
    there = [written(n // 2, resource_id=thing) for n in range(11)]
    seen: list[str] = []
    cursor = ""
    while True:
        data = boss.get(f"/admin/audit-logs?resourceId={thing}&limit=3{cursor}").json["data"]
        assert data["pagination"]["limit"] == 3
        seen += [it["id"] for it in data["items"]]
        if not data["pagination"]["nextCursor"]:
            break
        cursor = f"&cursor={data['pagination']['nextCursor']}"
        written(60, resource_id=thing)
    assert sorted(seen) == sorted(there)
    assert seen == [it for it in ids(boss, f"?resourceId={thing}&limit=100") if it in there]


def test_a_page_has_twenty_rows_unless_asked_otherwise(boss):
    for n in range(25):
        written(n)
    assert len(read(boss)) == 20
    assert len(read(boss, "?limit=22")) == 22


@pytest.mark.parametrize(
    "filter", ["", "resource_type = 'payment' AND", "action = 'payments.payment.begin' AND"]
)
def test_a_page_is_a_walk_along_an_index(database, filter):
    written()
    # A table of one row is not worth an index, nor is a sort of it worth sparing.
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


# --- whether it still is what was written ---------------------------------------------------------------


def test_what_the_application_wrote_is_verified(boss):
    rows = verified(boss)["rows"]
    assert rows > 0
    written()
    assert verified(boss) == {"ok": True, "rows": rows + 1, "firstBroken": None}


def test_the_first_broken_row_is_named(boss):
    id = written()
    written()
    behind_our_back("UPDATE admin.audit_logs SET user_agent = 'nobody' WHERE id = %s", id)
    found = verified(boss)
    assert found["ok"] is False
    assert found["firstBroken"] == {
        "id": id,
        "reason": "this row was changed, or put in the place of another",
    }


def test_a_removed_newest_row_has_no_id_any_more(boss):
    rows = verified(boss)["rows"]
    behind_our_back("DELETE FROM admin.audit_logs WHERE id = %s", written())
    reason = "the newest row was removed"
    assert verified(boss) == {"ok": False, "rows": rows, "firstBroken": {"id": None, "reason": reason}}


def test_a_broken_log_is_an_error_in_the_log_of_the_process(boss, monkeypatch):
    said = []
    monkeypatch.setattr(audit.log, "error", lambda event, **_more: said.append(event), raising=False)
    verified(boss)
    assert said == []
    behind_our_back("DELETE FROM admin.audit_logs")
    verified(boss)
    assert said == ["audit log broken"]


def test_a_long_log_is_not_read_whole_for_an_answer_and_its_newest_rows_are(boss, monkeypatch):
    for _ in range(4):
        written()
    rows = verified(boss)["rows"]
    monkeypatch.setattr(audit_logs, "MAX_ROWS_VERIFIED_AT_ONCE", 1)
    assert error(boss.get("/admin/audit-logs/verify")) == (503, "SERVICE_UNAVAILABLE")
    makers.enqueue_scheduled(invariant_checks.check_invariants)
    work()
    assert verified(boss) == {"ok": True, "rows": rows, "firstBroken": None}
    id = written()
    assert verified(boss) == {"ok": True, "rows": rows + 1, "firstBroken": None}
    behind_our_back("UPDATE admin.audit_logs SET details = '[]' WHERE seq = 2")
    assert verified(boss)["ok"]
    behind_our_back("UPDATE admin.audit_logs SET user_agent = 'nobody' WHERE id = %s", id)
    assert verified(boss)["firstBroken"]["id"] == id
    behind_our_back("DELETE FROM admin.audit_logs WHERE id = %s", id)
    assert verified(boss)["firstBroken"] == {"id": None, "reason": "the newest row was removed"}
    # The next verification of the whole finds the older one.
    makers.enqueue_scheduled(invariant_checks.check_invariants)
    work()
    [second] = postgres.rows("SELECT id::text FROM admin.audit_logs WHERE seq = 2")
    assert verified(boss)["firstBroken"]["id"] == second["id"]
