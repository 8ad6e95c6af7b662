"""How the whole is, as an administrator asks: what waits, and whether what must hold does hold."""

from typing import Any
from uuid import uuid4

import pytest

from actors import housekeeping
from actors import payments as life
from actors.psp.provider import Answer, Outcome
from db import journal, operating, postgres
from tests import makers
from tests.makers import Visitor, work

OLD = "clock_timestamp() - interval '2 minutes'"


def invariants(who: Visitor) -> dict[str, Any]:
    data = who.get("/admin/invariants").json["data"]
    assert data["ok"] is all(it["ok"] for it in data["invariants"])
    return {it["name"]: it for it in data["invariants"]}


def broken(who: Visitor) -> set[str]:
    return {name for name, it in invariants(who).items() if not it["ok"]}


def aged() -> None:
    """All that was done was done two minutes ago."""
    for table, column in (
        ("payments.payments", "updated_at"), ("payments.payment_transactions", "created_at"),
        ("journal.tasks", "due_at"),
    ):  # fmt: skip
        postgres.rows(f"UPDATE {table} SET {column} = {column} - interval '2 minutes'")


def test_what_waits_and_who_works_is_told(boss):
    work()
    makers.due(housekeeping.expire_sign_in_failures)
    makers.payment()
    data = boss.get("/admin/health").json["data"]
    assert (data["database"], data["redis"], data["deadPromises"], data["needsReview"]) == ("ok", "ok", 0, 0)
    assert data["queues"]["payments"] == 1
    assert 0 <= data["oldestPromiseSeconds"] < 60
    assert list(data["scheduler"]["lastRuns"]) == ["housekeeping.expire_sign_in_failures"]
    journal.Row.update(dead_at=makers.MOMENT).execute()
    makers.payment(simulate="blackout")
    work()
    data = boss.get("/admin/health").json["data"]
    assert data["deadPromises"] > 0
    assert data["needsReview"] == 1


def test_whatever_happened_everything_holds(boss):
    request = makers.open_request()
    makers.payment()
    for simulate in ("decline", "timeout", "error", "outage", "blackout", "duplicate"):
        makers.payment(simulate=simulate)
    work()
    aged()
    assert broken(boss) == set()
    assert makers.now(request).status == "initiated"


@pytest.mark.parametrize(
    ("behind_our_back", "names"),
    [
        ("DELETE FROM psp.charges", {"charged_once", "the_money_adds_up"}),
        ("UPDATE psp.charges SET amount = 1", {"charged_once", "the_money_adds_up"}),
        ("UPDATE psp.charges SET payment_id = gen_random_uuid()", {"charged_once", "every_charge_has_its_payment", "the_money_adds_up"}),
        ("DELETE FROM payments.payment_transactions WHERE transaction_type = 'complete'", {"every_change_has_its_history"}),
        ("UPDATE payments.payment_transactions SET status = 'cancelled' WHERE transaction_type = 'begin'", {"every_history_is_legal"}),
        ("DELETE FROM admin.events WHERE seq = (SELECT max(seq) - 1 FROM admin.events)", {"every_change_is_told", "the_log_of_events_has_no_gaps"}),
        ("UPDATE payments.payments SET version = version + 1", {"every_change_is_told"}),
    ],
)  # fmt: skip
def test_what_is_done_behind_our_back_is_seen(boss, behind_our_back, names):
    work()
    payment = makers.payment()
    work()
    aged()
    assert broken(boss) == set()
    postgres.rows(behind_our_back)
    found = invariants(boss)
    assert {name for name, it in found.items() if not it["ok"]} == names
    assert all(it["count"] == len(it["offenders"]) == 1 for name, it in found.items() if name in names)
    assert {"USD", str(payment.id)} & {
        offender for name in names for offender in found[name]["offenders"]
    } or len(names) > 1


def test_what_is_neither_finished_nor_promised_is_seen(boss):
    payment = makers.payment()
    aged()
    assert {"no_promise_is_forgotten", "every_change_is_told"} <= broken(boss)
    postgres.rows("DELETE FROM journal.tasks")
    assert invariants(boss)["nothing_stays_unfinished"]["offenders"] == [str(payment.id)]


def test_a_late_charge_is_known_once_it_is_marked(boss):
    payment = makers.payment(simulate="decline")
    work()
    postgres.rows("UPDATE psp.charges SET outcome = 'charged'")
    assert "nothing_that_ended_badly_is_charged" in broken(boss)
    life.hear(payment.id, Answer(Outcome.CHARGED))
    work()
    assert broken(boss) == set()
    assert boss.post(f"/payments/{payment.id}/review", {"reason": "Refunded by the PSP"}).status_code == 200
    assert broken(boss) == set()


def test_an_audit_log_that_was_changed_is_seen(boss):
    makers.payment()
    work()
    assert invariants(boss)["the_audit_log_is_whole"]["ok"]
    postgres.rows("SET LOCAL session_replication_role = replica")
    [row] = postgres.rows(
        "UPDATE admin.audit_logs SET details = '{}' WHERE seq = (SELECT max(seq) FROM admin.audit_logs)"
        " RETURNING id::text"
    )
    postgres.rows("SET LOCAL session_replication_role = origin")
    assert invariants(boss)["the_audit_log_is_whole"]["offenders"] == [row["id"]]


def test_no_more_than_twenty_are_named(boss):
    for _ in range(21):
        postgres.rows(
            "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome)"
            " VALUES (%s, gen_random_uuid(), 1, 'USD', 'charged')",
            str(uuid4()),
        )
    found = invariants(boss)["every_charge_has_its_payment"]
    assert (found["count"], len(found["offenders"])) == (21, 20)


def test_the_scheduler_looks_and_says_so(database):
    postgres.rows(
        "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome)"
        " VALUES ('x', gen_random_uuid(), 1, 'USD', 'charged')"
    )
    makers.due(housekeeping.check_invariants)
    each = ["housekeeping.check_invariant"] * len(operating.INVARIANTS)
    assert work() == ["housekeeping.check_invariants", *each]
    kept = {it.name: it for it in operating.kept()}
    assert kept.keys() == operating.INVARIANTS.keys()
    assert [name for name, it in kept.items() if not it.ok] == ["every_charge_has_its_payment"]
    assert kept["every_charge_has_its_payment"].offenders == ["x"]


def test_one_that_takes_too_long_keeps_no_other_from_being_looked_at(database, monkeypatch):
    slow = {"slow": "SELECT pg_sleep(5)::text AS id", **operating.INVARIANTS}
    monkeypatch.setattr(operating, "INVARIANTS", slow)
    monkeypatch.setattr(housekeeping, "_PATIENCE", 0.2)
    makers.due(housekeeping.check_invariants)
    work()
    assert {it.name for it in operating.kept()} == slow.keys() - {"slow"}
