"""What administrators see of the PSP: how its calls of the last hour ended, and what nobody knows yet."""

import pytest

from api.app import create_app
from db import postgres
from db.users import Role
from tests import makers
from tests.makers import visitor, work


@pytest.fixture
def application(settings):
    """Its own for each test: what it has counted stands for some seconds."""
    return create_app(settings)


def test_calls_are_counted_by_outcome(client):
    for simulate in ("approve", "approve", "approve", "decline", "blackout"):
        makers.payment(simulate=simulate)
    work()
    data = visitor(client, Role.ADMIN).get("/admin/psp").json["data"]
    assert (data["outcomes"]["charged"], data["outcomes"]["declined"]) == (3, 1)
    assert data["outcomes"]["no_answer"] >= 1
    assert (data["approvalRate"], data["unknown"]) == (0.75, 1)
    assert 0 <= data["p50Ms"] <= data["p95Ms"]


def test_calls_of_an_earlier_hour_are_not_counted(client):
    makers.payment()
    work()
    postgres.rows("UPDATE payments.psp_attempts SET created_at = created_at - interval '61 minutes'")
    data = visitor(client, Role.ADMIN).get("/admin/psp").json["data"]
    assert data == {"outcomes": {}, "approvalRate": None, "p50Ms": None, "p95Ms": None, "unknown": 0}
