"""The rights in docs/security.md suffice for every process, and do not allow changes of the audit log."""

import re

import peewee
import pytest

from db import postgres
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
