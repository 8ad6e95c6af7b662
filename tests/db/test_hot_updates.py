"""A payment is updated twice, and neither update writes to an index."""

import pytest

from db import postgres
from db.users import Role
from tests import makers
from tests.makers import visitor, work

IN_PROGRESS = "SELECT payment_id FROM payments.payments_in_progress"


def in_progress() -> set[str]:
    return {str(row["payment_id"]) for row in postgres.rows(IN_PROGRESS)}


def updates() -> tuple[int, int]:
    """How many updates of payments this transaction has made, and how many of them were HOT."""
    [found] = postgres.rows(
        "SELECT pg_stat_get_xact_tuples_updated(payments) AS all, pg_stat_get_xact_tuples_hot_updated(payments) AS hot"
        " FROM (SELECT 'payments.payments'::regclass AS payments) AS named"
    )
    return found["all"], found["hot"]


@pytest.mark.usefixtures("database")
def test_a_payment_begins_and_completes_without_a_write_to_an_index():
    payment = makers.payment()
    before = updates()
    work()
    assert makers.reload(payment).status == "completed"
    after = updates()
    assert (after[0] - before[0], after[1] - before[1]) == (2, 2)


def test_payments_are_in_progress_until_they_end_and_requests_until_they_are_initiated(client):
    customer, vendor = visitor(client), visitor(client, Role.VENDOR)
    paid = vendor.post("/payments", {"type": "initiate", "amount": 3}).json["data"]["id"]
    assert in_progress() == {paid}
    work()
    assert in_progress() == set()
    pay = {"type": "payment", "requestId": paid}
    payment = customer.post("/payments", pay).json["data"]["id"]
    declined = customer.post(
        "/payments", {"type": "payment", "amount": 1, "metadata": {"simulate": "decline"}}
    ).json["data"]["id"]
    assert in_progress() == {payment, declined}
    work()
    assert in_progress() == set()


def test_every_status_is_found_in_the_list(client):
    admin, vendor, customer = visitor(client, Role.ADMIN), visitor(client, Role.VENDOR), visitor(client)
    for type, user in (("payment", customer), ("initiate", vendor)):
        for status in ("pending", "initiated", "processing", "completed", "failed", "cancelled"):
            if (type, status) != ("payment", "initiated"):
                makers.payment_row(user_id=user.user["id"], type=type, status=status, amount=1)
    for status, count in (
        ("pending", 2), ("initiated", 1), ("processing", 2), ("completed", 2), ("failed", 2), ("cancelled", 2),
    ):  # fmt: skip
        listed = admin.get(f"/payments?status={status}").json["data"]["items"]
        assert [payment["status"] for payment in listed] == [status] * count
