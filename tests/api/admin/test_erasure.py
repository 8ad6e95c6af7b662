"""A closed account leaves no personal data, under any address that it ever had."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from peewee import SQL

from actors import account_erasure, events, jobs
from actors.jobs import enqueue, transaction
from db import event_log, invariants, job_journal, personal_data, postgres, sessions, users
from db.event_log import Event
from db.idempotency import IdempotencyKey
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, registered, verify_email, work

PROFILE = {
    "name": "Erika Unverwechselbar",
    "phone": "+4930123987654",
    "address": "1 Unmistakable Lane",
    "bio": "collects thimbles",
}


def ask(vendor: Visitor, email: str, key: str) -> str:
    body = {"type": "initiate", "amount": "5.00", "customerEmail": email}
    made = vendor.post("/payments", body, headers={"Idempotency-Key": key})
    assert made.status_code == 201
    return str(made.json["data"]["id"])


def rename(boss: Visitor, who: Visitor, *, proved: bool) -> str:
    email = f"Erika.{makers.address()}"
    body = {"email": email, "emailVerified": proved}
    assert boss.send("PUT", f"/admin/users/{who.user['id']}", body).status_code == 200
    return email


def where_it_stands(words: Sequence[str]) -> list[tuple[str, str]]:
    """Every table in which one of these words stands, as text or as bytes."""
    found = []
    tables = postgres.rows(
        "SELECT format('%%I.%%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('public', 'pg_catalog', 'information_schema')"
    )
    for table in tables:
        for row in postgres.rows(f"SELECT lower(t::text) AS text FROM {table['name']} t"):
            text = row["text"]
            found += [(table["name"], it) for it in words if it.lower() in text]
            found += [(table["name"], it) for it in words if it.encode().hex() in text]
    return found


def test_nothing_of_a_closed_account_is_left_in_any_table(client, vendor, boss):
    customer, bystander = registered(client, email=f"Erika.{makers.address()}"), registered(client)
    customer.send("PUT", "/profile", PROFILE)
    first = str(customer.user["email"])
    unproved = ask(vendor, first.upper(), "1")
    work()
    second = rename(boss, customer, proved=True)
    bound, moved = ask(vendor, second, "2"), ask(vendor, second, "3")
    work()
    # Addressed to another since, but the stored answer and the first events name the one who is gone.
    vendor.send("PUT", f"/payments/{moved}", {"customerEmail": bystander.user["email"]})
    third = rename(boss, customer, proved=False)
    client.simulate_post("/api/auth/forgot-password", json={"email": third})
    # These have no number in the log yet when the account is closed.
    late = ask(vendor, third, "4")
    words = [first, second, third, *PROFILE.values()]
    assert {name for name, _ in where_it_stands(words)} >= {
        "admin.events",
        "auth.former_addresses",
        "auth.users",
        "journal.jobs",
        "payments.idempotency_keys",
        "payments.payments",
        "profile.user_profiles",
    }

    assert boss.send("DELETE", f"/admin/users/{customer.user['id']}").status_code == 200
    assert error(customer.get("/auth/me")) == (401, "UNAUTHORIZED")
    work()

    assert where_it_stands(words) == []
    gone = f"closed-{customer.user['id']}@closed.invalid"
    for id, key, email in ((unproved, "1", first.upper()), (bound, "2", second), (late, "4", third)):
        assert vendor.get(f"/payments/{id}").json["data"]["customerEmail"] == gone
        body = {"type": "initiate", "amount": "5.00", "customerEmail": email}
        again = vendor.post("/payments", body, headers={"Idempotency-Key": key})
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (again.json["data"]["id"], again.json["data"]["customerEmail"]) == (id, gone)
    shown = vendor.get(f"/payments/{moved}").json["data"]
    assert shown["customerEmail"] == bystander.user["email"]


def test_what_is_shown_otherwise_is_another_version(client, vendor, boss):
    customer = registered(client)
    verify_email(customer)
    id = ask(vendor, customer.user["email"], "1")
    work()
    before = vendor.get(f"/payments/{id}")
    boss.send("DELETE", f"/admin/users/{customer.user['id']}")
    work()
    now = vendor.get(f"/payments/{id}", headers={"If-None-Match": before.headers["ETag"]})
    assert now.status_code == 200
    assert now.headers["ETag"] == f'"{now.json["data"]["version"]}"' != before.headers["ETag"]
    assert now.json["data"]["updatedAt"] > before.json["data"]["updatedAt"]
    told = [it.data for it in event_log.after(0, 1000) if it.data.get("id") == id]
    assert [it["version"] for it in told] == [1, 2, 3]
    postgres.rows("UPDATE payments.payments SET updated_at = updated_at - interval '1 hour'")
    assert invariants.check("every_change_has_an_event", makers.MOMENT, seconds=5).ok


def test_an_address_that_is_anothers_by_now_stays_theirs(client, vendor, boss):
    gone = registered(client)
    email = str(gone.user["email"])
    verify_email(gone)
    old = ask(vendor, email, "1")
    rename(boss, gone, proved=False)
    heir = registered(client, email=email)
    verify_email(heir)
    new = ask(vendor, email, "2")
    work()
    boss.send("DELETE", f"/admin/users/{gone.user['id']}")
    work()
    shown = {id: vendor.get(f"/payments/{id}").json["data"]["customerEmail"] for id in (old, new)}
    assert shown == {old: f"closed-{gone.user['id']}@closed.invalid", new: email}
    named = {it.data["id"] for it in event_log.after(0, 1000) if it.data.get("customerEmail") == email}
    assert named == {new}
    answers = {it.key: bytes(it.body or b"").decode() for it in IdempotencyKey.select()}
    assert (email in answers["1"], email in answers["2"]) == (False, True)
    assert heir.get(f"/payments/{new}").status_code == 200


@pytest.fixture
def talked_of(client, boss) -> str:
    """A closed account, about which there are 3000 events; its erasure has not begun."""
    who = registered(client)
    work()
    last = event_log.last_seq()
    postgres.rows(
        "INSERT INTO admin.events (id, seq, type, data, occurred_at)"
        " SELECT gen_random_uuid(), %s + n, type, data, occurred_at FROM admin.events,"
        " generate_series(1, 3000) AS n WHERE type = %s AND data ->> 'id' = %s",
        last,
        events.EventType.USER_REGISTERED,
        who.user["id"],
    )
    boss.send("DELETE", f"/admin/users/{who.user['id']}")
    return str(who.user["email"])


def left(email: str) -> int:
    return int(Event.select().where(SQL("strpos(data::text, %s) > 0", (email,))).count())


def next_erasure() -> job_journal.JobRow:
    found = job_journal.JobRow.select().where(job_journal.JobRow.name == "accounts.erase")
    return found.order_by(job_journal.JobRow.position).get()


def test_many_events_are_erased_in_chunks(talked_of):
    steps = []
    while before := left(talked_of):
        jobs.registry["accounts.erase"].perform(next_erasure().id)
        steps.append(before - left(talked_of))
    assert sum(steps) > 3000
    assert max(steps) == account_erasure.ROWS
    work()
    assert personal_data.FormerAddress.select().count() == 0


def test_a_long_journal_has_the_time_to_be_searched(talked_of, monkeypatch):
    limits = set[str]()

    def raced(*_: Any, **__: Any) -> int:
        limits.update(row["it"] for row in postgres.rows("SELECT current_setting('statement_timeout') AS it"))
        return 0

    monkeypatch.setattr(personal_data, "erase_from_jobs", raced)
    postgres.rows("SET LOCAL statement_timeout = '5s'")
    jobs.registry["accounts.erase"].perform(next_erasure().id)
    assert limits == {"30s"}
    assert left(talked_of)


def test_an_erasure_that_is_interrupted_goes_on(talked_of, monkeypatch):
    real = personal_data.erase_from_events_about

    def dies(*args: Any, **more: Any) -> int:
        real(*args, **more)
        raise SystemExit

    before = left(talked_of)
    with monkeypatch.context() as patch:
        patch.setattr(personal_data, "erase_from_events_about", dies)
        with pytest.raises(SystemExit):
            for _ in range(5):
                jobs.registry["accounts.erase"].perform(next_erasure().id)
    assert left(talked_of) == before
    work()
    assert left(talked_of) == 0


def test_events_that_have_no_number_yet_are_waited_for(client, vendor, boss):
    customer = registered(client)
    work()
    ask(vendor, customer.user["email"], "1")
    boss.send("DELETE", f"/admin/users/{customer.user['id']}")
    for _ in range(4):
        jobs.registry["accounts.erase"].perform(next_erasure().id)
    # It goes on as soon as they have one, and forgets no address before.
    assert personal_data.FormerAddress.select().count() == 1
    work()
    assert where_it_stands([customer.user["email"]]) == []


def test_a_request_that_was_under_way_at_the_closing_is_found_by_the_second_look(client, vendor, boss):
    customer = registered(client)
    verify_email(customer)
    boss.send("DELETE", f"/admin/users/{customer.user['id']}")
    while not next_erasure().args.get("again"):
        first = job_journal.JobRow.select().order_by(job_journal.JobRow.position).get()
        jobs.registry[first.name].perform(first.id)
    # It was made while the account was open, and is committed only now.
    late = makers.request(users.User.get_by_id(vendor.user["id"]), customer_email=customer.user["email"])
    postgres.rows(
        "UPDATE payments.payments SET addressee_id = %s WHERE id = %s", UUID(customer.user["id"]), late.id
    )
    work()
    assert where_it_stands([customer.user["email"]]) == []


def test_a_vendor_who_is_gone_leaves_no_session(client, boss):
    vendor = registered(client, Role.VENDOR)
    boss.send("DELETE", f"/admin/users/{vendor.user['id']}")
    work()
    assert sessions.Session.select().where(sessions.Session.user_id == vendor.user["id"]).count() == 0
    assert (
        sessions.RefreshToken.select().where(sessions.RefreshToken.user_id == vendor.user["id"]).count() == 0
    )
    with transaction():
        enqueue(account_erasure.erase.job(UUID(vendor.user["id"])))
    # Whoever asks for it once more finds nothing to do.
    assert work() == ["accounts.erase"] * 2
