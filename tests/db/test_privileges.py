"""The rights in docs/security.md suffice for every process, and do not allow changes of the audit log."""

import re

import peewee
import pytest

from db import job_floors, job_journal, postgres
from db.core.ids import uuid7
from db.job_journal import Job
from db.users import Role
from tests.makers import visitor, work

GRANTED = re.compile(r"```sql\n(GRANT USAGE.*?)```", re.DOTALL)


@pytest.fixture
def as_application(client, root):
    """Continues the test's transaction as the role that the document describes."""
    [printed] = GRANTED.findall((root / "docs/security.md").read_text())
    postgres.rows("CREATE ROLE paywright_app")
    postgres.rows(printed.replace("%", "%%"))
    postgres.rows("SET LOCAL ROLE paywright_app")


def test_the_documented_rights_suffice_for_a_payment_and_its_jobs(client, as_application):
    customer, vendor = visitor(client), visitor(client, Role.VENDOR)
    request = vendor.post("/payments", {"type": "initiate", "amount": "5.00"}).json["data"]["id"]
    work()
    paid = customer.post(
        "/payments", {"type": "payment", "requestId": request}, headers={"Idempotency-Key": "k"}
    )
    work()
    assert customer.get(f"/payments/{paid.json['data']['id']}").json["data"]["status"] == "completed"
    admin = visitor(client, Role.ADMIN)
    assert admin.send("PUT", "/admin/config", {"psp.latencyMs": 1}).status_code == 200
    assert admin.send("DELETE", f"/admin/users/{customer.user['id']}").status_code == 200
    work()
    assert admin.get("/admin/audit-logs/verify").json["data"]["ok"]


def test_they_suffice_to_search_from_a_later_position_while_searches_are_slow(as_application, monkeypatch):
    job_journal.insert([Job(uuid7(), "records.append", "events", {}, None)])
    monkeypatch.setattr(job_floors, "SLOW_S", -1)
    job_floors.search("SELECT %(name)s, %(floor)s", "records.append")
    # The position that was the newest at the search before is the first one from which to search.
    monkeypatch.setattr(job_floors, "REMEMBERED_FOR_S", 0)
    assert job_floors.position("records.append") == 0
    assert job_floors.position("records.append") > 0


def test_without_a_right_to_the_sequence_each_search_begins_at_the_first_position(
    as_application, monkeypatch
):
    postgres.rows("RESET ROLE")
    postgres.rows("REVOKE SELECT ON ALL SEQUENCES IN SCHEMA journal FROM paywright_app")
    postgres.rows("SET LOCAL ROLE paywright_app")
    monkeypatch.setattr(job_floors, "SLOW_S", -1)
    monkeypatch.setattr(job_floors, "REMEMBERED_FOR_S", 0)
    job_floors.search("SELECT %(name)s, %(floor)s", "records.append")
    assert [job_floors.position("records.append") for _ in range(2)] == [0, 0]
    job_floors.forget()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE admin.audit_logs SET action = 'other'",
        "DELETE FROM admin.audit_logs",
        "TRUNCATE admin.audit_logs",
        "ALTER TABLE admin.audit_logs DISABLE TRIGGER ALL",
        "DELETE FROM admin.audit_seal",
    ],
)
def test_the_documented_rights_do_not_allow_changes_of_the_audit_log(as_application, statement):
    with pytest.raises(peewee.ProgrammingError, match=r"permission denied|must be owner"):
        postgres.rows(statement)
