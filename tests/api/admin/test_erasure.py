"""Erasing the personal data of a closed account, under every address that it ever had."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from peewee import SQL

from actors import account_erasure, events, jobs
from actors.jobs import enqueue, transaction
from db import event_log, invariants, personal_data, postgres, sessions, users
from db.event_log import Event
from db.idempotency import IdempotencyKey
from db.users import Role
from tests import makers, tables
from tests.makers import Visitor, error, registered, verify_email, work
from tests.tables import JobRow

PROFILE = {
    "name": "Erika Unverwechselbar",
    "phone": "+4930123987654",
    "address": "1 Unmistakable Lane",
    "bio": "collects thimbles",
}


def request_payment(vendor: Visitor, email: str, key: str) -> str:
    body = {"type": "initiate", "amount": "5.00", "customerEmail": email}
    made = vendor.post("/payments", body, headers={"Idempotency-Key": key})
    assert made.status_code == 201
    return str(made.json["data"]["id"])


def change_address(admin: Visitor, user: Visitor, *, proved: bool) -> str:
    email = f"Erika.{makers.address()}"
    body = {"email": email, "emailVerified": proved}
    assert admin.send("PUT", f"/admin/users/{user.user['id']}", body).status_code == 200
    return email


def find_everywhere(words: Sequence[str]) -> list[tuple[str, str]]:
    """Returns each table that contains one of these words, as text or as bytes, with the word."""
    found = []
    tables = postgres.rows(
        "SELECT format('%%I.%%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('public', 'pg_catalog', 'information_schema')"
    )
    for table in tables:
        for row in postgres.rows(f"SELECT lower(t::text) AS text FROM {table['name']} t"):
            text = row["text"]
            found += [(table["name"], word) for word in words if word.lower() in text]
            found += [(table["name"], word) for word in words if word.encode().hex() in text]
    return found


def test_no_personal_data_of_a_closed_account_is_left_in_any_table(client, vendor, admin):
    customer, bystander = registered(client, email=f"Erika.{makers.address()}"), registered(client)
    customer.send("PUT", "/profile", PROFILE)
    first = str(customer.user["email"])
    unproved = request_payment(vendor, first.upper(), "1")
    work()
    second = change_address(admin, customer, proved=True)
    bound, moved = request_payment(vendor, second, "2"), request_payment(vendor, second, "3")
    work()
    # Addressed to another user now, but the stored response and the first events have the old address.
    vendor.send("PUT", f"/payments/{moved}", {"customerEmail": bystander.user["email"]})
    third = change_address(admin, customer, proved=False)
    client.simulate_post("/api/auth/forgot-password", json={"email": third})
    # The events of this request are not in the log yet when the account is closed.
    late = request_payment(vendor, third, "4")
    words = [first, second, third, *PROFILE.values()]
    assert {name for name, _ in find_everywhere(words)} >= {
        "admin.event_log",
        "auth.former_addresses",
        "auth.users",
        "journal.jobs",
        "payments.idempotency_keys",
        "payments.payments",
        "profile.user_profiles",
    }

    assert admin.send("DELETE", f"/admin/users/{customer.user['id']}").status_code == 200
    assert error(customer.get("/auth/me")) == (401, "UNAUTHORIZED")
    work()

    assert find_everywhere(words) == []
    erased = f"closed-{customer.user['id']}@closed.invalid"
    for id, key, email in ((unproved, "1", first.upper()), (bound, "2", second), (late, "4", third)):
        assert vendor.get(f"/payments/{id}").json["data"]["customerEmail"] == erased
        body = {"type": "initiate", "amount": "5.00", "customerEmail": email}
        again = vendor.post("/payments", body, headers={"Idempotency-Key": key})
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (again.json["data"]["id"], again.json["data"]["customerEmail"]) == (id, erased)
    shown = vendor.get(f"/payments/{moved}").json["data"]
    assert shown["customerEmail"] == bystander.user["email"]


def test_erasing_an_address_makes_another_version_of_the_payment(client, vendor, admin):
    customer = registered(client)
    verify_email(customer)
    id = request_payment(vendor, customer.user["email"], "1")
    work()
    before = vendor.get(f"/payments/{id}")
    admin.send("DELETE", f"/admin/users/{customer.user['id']}")
    work()
    now = vendor.get(f"/payments/{id}", headers={"If-None-Match": before.headers["ETag"]})
    assert now.status_code == 200
    assert now.headers["ETag"] == f'"{now.json["data"]["version"]}"' != before.headers["ETag"]
    assert now.json["data"]["updatedAt"] > before.json["data"]["updatedAt"]
    versions = [event.data["version"] for event in event_log.after(0, 1000) if event.data.get("id") == id]
    assert versions == [1, 2, 3]
    postgres.rows("UPDATE payments.payments SET updated_at = updated_at - interval '1 hour'")
    assert invariants.check("every_change_has_an_event", makers.MOMENT, seconds=5).ok


def test_an_address_that_another_user_has_now_is_kept(client, vendor, admin):
    gone = registered(client)
    email = str(gone.user["email"])
    verify_email(gone)
    old = request_payment(vendor, email, "1")
    change_address(admin, gone, proved=False)
    heir = registered(client, email=email)
    verify_email(heir)
    new = request_payment(vendor, email, "2")
    work()
    admin.send("DELETE", f"/admin/users/{gone.user['id']}")
    work()
    shown = {id: vendor.get(f"/payments/{id}").json["data"]["customerEmail"] for id in (old, new)}
    assert shown == {old: f"closed-{gone.user['id']}@closed.invalid", new: email}
    named = {
        event.data["id"] for event in event_log.after(0, 1000) if event.data.get("customerEmail") == email
    }
    assert named == {new}
    responses = {row.key: bytes(row.body or b"").decode() for row in IdempotencyKey.select()}
    assert (email in responses["1"], email in responses["2"]) == (False, True)
    assert heir.get(f"/payments/{new}").status_code == 200


@pytest.fixture
def with_many_events(client, admin) -> str:
    """Returns the address of a closed account with 3000 events, whose erasure has not begun."""
    user = registered(client)
    work()
    last = tables.last_seq()
    postgres.rows(
        "INSERT INTO admin.events (id, seq, type, data, occurred_at)"
        " SELECT gen_random_uuid(), %s + n, type, data, occurred_at FROM admin.events,"
        " generate_series(1, 3000) AS n WHERE type = %s AND data ->> 'id' = %s",
        last,
        events.EventType.USER_REGISTERED,
        user.user["id"],
    )
    admin.send("DELETE", f"/admin/users/{user.user['id']}")
    return str(user.user["email"])


def events_left(email: str) -> int:
    return int(Event.select().where(SQL("strpos(data::text, %s) > 0", (email,))).count())


def next_erasure() -> JobRow:
    found = JobRow.select().where(JobRow.name == "accounts.erase")
    return found.order_by(JobRow.position).get()


def test_events_are_erased_in_batches(with_many_events):
    steps = []
    while before := events_left(with_many_events):
        jobs.registry["accounts.erase"].perform(next_erasure().id)
        steps.append(before - events_left(with_many_events))
    assert sum(steps) > 3000
    assert max(steps) == account_erasure.ROWS
    work()
    assert postgres.rows("SELECT FROM auth.former_addresses") == []


def test_searching_the_job_journal_has_a_longer_timeout(with_many_events, monkeypatch):
    limits = set[str]()

    def record_timeout(*_: Any, **__: Any) -> int:
        limits.update(
            row["value"] for row in postgres.rows("SELECT current_setting('statement_timeout') AS value")
        )
        return 0

    monkeypatch.setattr(personal_data, "erase_from_jobs", record_timeout)
    postgres.rows("SET LOCAL statement_timeout = '5s'")
    jobs.registry["accounts.erase"].perform(next_erasure().id)
    assert limits == {"30s"}
    assert events_left(with_many_events)


def test_an_interrupted_erasure_continues(with_many_events, monkeypatch):
    real = personal_data.erase_from_events_about

    def die(*args: Any, **more: Any) -> int:
        real(*args, **more)
        raise SystemExit

    before = events_left(with_many_events)
    with monkeypatch.context() as patch:
        patch.setattr(personal_data, "erase_from_events_about", die)
        with pytest.raises(SystemExit):
            for _ in range(5):
                jobs.registry["accounts.erase"].perform(next_erasure().id)
    assert events_left(with_many_events) == before
    work()
    assert events_left(with_many_events) == 0


def test_an_erasure_waits_for_events_that_are_not_in_the_log(client, vendor, admin):
    customer = registered(client)
    work()
    request_payment(vendor, customer.user["email"], "1")
    admin.send("DELETE", f"/admin/users/{customer.user['id']}")
    for _ in range(4):
        jobs.registry["accounts.erase"].perform(next_erasure().id)
    # The former address is kept until then.
    assert len(postgres.rows("SELECT FROM auth.former_addresses")) == 1
    work()
    assert find_everywhere([customer.user["email"]]) == []


def test_a_request_committed_after_the_closing_is_found_by_the_second_pass(client, vendor, admin):
    customer = registered(client)
    verify_email(customer)
    admin.send("DELETE", f"/admin/users/{customer.user['id']}")
    while not next_erasure().args.get("again"):
        first = JobRow.select().order_by(JobRow.position).get()
        jobs.registry[first.name].perform(first.id)
    # Created while the account was open, committed only now.
    late = makers.request(users.User.get_by_id(vendor.user["id"]), customer_email=customer.user["email"])
    postgres.rows(
        "UPDATE payments.payments SET addressee_id = %s WHERE id = %s", UUID(customer.user["id"]), late.id
    )
    work()
    assert find_everywhere([customer.user["email"]]) == []


def test_a_closed_account_leaves_no_session(client, admin):
    vendor = registered(client, Role.VENDOR)
    admin.send("DELETE", f"/admin/users/{vendor.user['id']}")
    work()
    assert sessions.Session.select().where(sessions.Session.user_id == vendor.user["id"]).count() == 0
    assert (
        sessions.RefreshToken.select().where(sessions.RefreshToken.user_id == vendor.user["id"]).count() == 0
    )
    with transaction():
        enqueue(account_erasure.erase.job(UUID(vendor.user["id"])))
    # A second erasure finds nothing to do.
    assert work() == ["accounts.erase"] * 2
