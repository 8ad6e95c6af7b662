"""The health for administrators, and the invariants."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors import housekeeping, invariant_checks, jobs, payment_jobs
from actors.psp.provider import Answer, Outcome
from api.operations import metrics
from db import (
    audit_chain,
    audit_log,
    backlog,
    heartbeats,
    invariants,
    leases,
    postgres,
    redis,
)
from db.core import times
from db.users import Role
from tests import makers
from tests.makers import Visitor, registered, until, visitor, work
from tests.tables import JobRow, MissedEvent


@pytest.fixture
def admin(client) -> Visitor:
    """An administrator whose registration has left audit entries, events and a mail."""
    return registered(client, Role.ADMIN)


@pytest.fixture(autouse=True)
def figures_of_now(monkeypatch, no_requests):
    monkeypatch.setattr(metrics, "CACHED_FOR_S", 0)


def metric(user: Visitor, name: str) -> dict[str, float]:
    """Returns the samples of a metric by the value of their label."""
    text = user.client.simulate_get("/metrics").text
    families = [each for each in text_string_to_metric_families(text) if each.name == name]
    return {"".join(each.labels.values()): each.value for family in families for each in family.samples}


def check(user: Visitor) -> None:
    """Requests a check of all invariants and runs it."""
    assert user.post("/admin/invariants").status_code == 202
    # Only these jobs: others wait on purpose.
    while found := JobRow.get_or_none(JobRow.name.startswith("housekeeping.")):
        jobs.registry[found.name].perform(found.id)


def get_invariants(user: Visitor) -> dict[str, Any]:
    data = user.get("/admin/invariants").json["data"]
    assert data["ok"] is all(each["ok"] for each in data["invariants"])
    return data


def check_by_name(user: Visitor) -> dict[str, Any]:
    check(user)
    return {each["name"]: each for each in get_invariants(user)["invariants"]}


def broken(user: Visitor) -> set[str]:
    return {name for name, each in check_by_name(user).items() if not each["ok"]}


def age_two_minutes() -> None:
    """Moves everything two minutes into the past."""
    for table, column in (
        ("payments.payments", "updated_at"), ("payments.payments", "created_at"),
        ("payments.payment_transactions", "created_at"),
        ("journal.jobs", "due_at"),
    ):  # fmt: skip
        with makers.triggers_disabled():
            postgres.rows(f"UPDATE {table} SET {column} = {column} - interval '2 minutes'")


def test_health_shows_queues_and_scheduler(admin):
    work()
    makers.enqueue_scheduled(housekeeping.expire_sign_in_failures)
    makers.payment()
    postgres.rows(
        "UPDATE journal.jobs SET created_at = created_at - interval '3 seconds' WHERE queue = 'payments'"
    )
    data = admin.get("/admin/health").json["data"]
    assert (data["database"], data["redis"], data["deadJobs"], data["needsReview"]) == ("ok", "ok", 0, 0)
    assert (data["queues"]["payments"], data["queues"]["psp"]) == (1, 0)
    assert 3 <= data["queueAgeSeconds"]["payments"] < 60
    assert data["queueAgeSeconds"]["psp"] == 0
    assert data["oldestJobSeconds"] == data["queueAgeSeconds"]["payments"]
    assert data["scheduler"]["lastRuns"] == {"housekeeping.expire_sign_in_failures": None}
    assert data["scheduler"]["leader"] == leases.process_name()
    assert metric(admin, "paywright_jobs") == data["queues"]
    assert metric(admin, "paywright_job_oldest_age_seconds").keys() == data["queues"].keys()
    assert metric(admin, "paywright_scheduled_job_last_completion_timestamp_seconds") == {
        "housekeeping.expire_sign_in_failures": 0
    }

    work()
    ended = admin.get("/admin/health").json["data"]["scheduler"]["lastRuns"]
    assert ended["housekeeping.expire_sign_in_failures"]
    assert (
        metric(admin, "paywright_scheduled_job_last_completion_timestamp_seconds")[
            "housekeeping.expire_sign_in_failures"
        ]
        > 0
    )


def test_health_counts_dead_jobs_by_name_reviews_and_missed_events(admin):
    work()
    makers.payment()
    makers.payment()
    JobRow.update(dead_at=makers.MOMENT).where(JobRow.name == "payments.begin").execute()
    makers.payment(simulate="blackout")
    work()
    MissedEvent.insert(name="subscribers.mail", seq=1, error="no").execute()
    data = admin.get("/admin/health").json["data"]
    assert (data["deadJobs"], data["deadJobsByName"]) == (2, {"payments.begin": 2})
    assert (data["needsReview"], data["missedEvents"]) == (1, 1)
    dead = metric(admin, "paywright_dead_jobs")
    assert (dead["payments.begin"], dead["payments.settle"]) == (2, 0)
    assert (
        metric(admin, "paywright_missed_events") == metric(admin, "paywright_payments_in_review") == {"": 1}
    )


def test_health_lists_every_process_and_queue(admin, stores):
    work()
    makers.payment()
    makers.payment()
    row = JobRow
    dead = row.select(row.id).where(row.name == "payments.begin").limit(1)
    row.update(dead_at=makers.MOMENT).where(row.id.in_(dead)).execute()
    client = redis.connect(stores["REDIS_URL"])
    # On a loaded machine Redis may answer too late, and then there is no heartbeat.

    def processes() -> list[heartbeats.Process]:
        heartbeats.beat(client, [], type="web")
        return heartbeats.processes(client)

    until(processes)
    data = admin.get("/admin/health").json["data"]
    [web] = [process for process in data["processes"] if process["type"] == "web"]
    assert f"{web['host']}:{web['pid']}" == leases.process_name()
    assert (web["number"], web["alive"]) == (None, True)
    assert "web" not in data["workers"]
    assert [each["name"] for each in data["queueStatuses"]] == sorted(data["queues"])
    [payments] = [each for each in data["queueStatuses"] if each["name"] == "payments"]
    assert (payments["depth"], payments["dead"], payments["paused"]) == (1, 1, False)
    assert payments["oldestAt"]
    heartbeats.leave(client, [], type="web")


def test_the_cost_of_the_backlog_does_not_grow_with_the_jobs(admin, monkeypatch):
    work()
    makers.payment()
    postgres.rows(
        "INSERT INTO journal.jobs (id, name, queue, args, due_at, created_at)"
        " SELECT gen_random_uuid(), 'mail.send', 'mail', '{}', clock_timestamp() - interval '1 minute',"
        " clock_timestamp() - interval '1 hour' FROM generate_series(1, 5000)"
    )
    postgres.rows("ANALYZE journal.jobs")
    monkeypatch.setattr(backlog, "COUNT_LIMIT", 100)
    before = rows_read()
    waits = backlog.measure({"psp"})
    assert rows_read() - before < 500
    assert (waits.waiting["mail"], waits.waiting["payments"], waits.waiting["psp"]) == (100, 1, 0)
    assert 3600 <= times.age_s(waits.oldest["mail"], times.now()) < 3700
    assert 0 <= times.age_s(waits.oldest["payments"], times.now()) < 60


def rows_read() -> int:
    [read] = postgres.rows("SELECT sum(seq_tup_read + idx_tup_fetch) AS rows FROM pg_stat_xact_user_tables")
    return int(read["rows"])


def test_all_invariants_hold_after_every_scenario(admin):
    request = makers.open_request()
    makers.payment()
    for simulate in ("decline", "timeout", "error", "outage", "blackout", "duplicate"):
        makers.payment(simulate=simulate)
    work()
    age_two_minutes()
    assert broken(admin) == set()
    assert makers.reload(request).status == "initiated"


@pytest.mark.parametrize(
    ("behind_our_back", "names"),
    [
        ("DELETE FROM psp.charges", {"charged_once", "charges_match_completed_amounts"}),
        ("UPDATE psp.charges SET amount = 1", {"charged_once", "charges_match_completed_amounts"}),
        ("UPDATE psp.charges SET payment_id = gen_random_uuid()", {"charged_once", "every_charge_has_a_payment", "charges_match_completed_amounts"}),
        ("DELETE FROM payments.payment_transactions WHERE transaction_type = 'complete'", {"every_change_has_a_transaction"}),
        ("UPDATE payments.payment_transactions SET status = 'cancelled' WHERE transaction_type = 'begin'", {"every_history_is_legal"}),
        ("DELETE FROM admin.events WHERE seq = (SELECT max(seq) - 1 FROM admin.events)", {"every_change_has_an_event", "event_log_has_no_gaps"}),
        ("UPDATE payments.payments SET version = version + 1", {"every_change_has_an_event"}),
    ],
)  # fmt: skip
def test_a_change_behind_the_applications_back_breaks_invariants(admin, behind_our_back, names):
    work()
    payment = makers.payment()
    work()
    age_two_minutes()
    assert broken(admin) == set()
    with makers.triggers_disabled():
        postgres.rows(behind_our_back)
    found = check_by_name(admin)
    assert {name for name, each in found.items() if not each["ok"]} == names
    assert all(each["count"] == len(each["offenders"]) == 1 for name, each in found.items() if name in names)
    assert {"USD", str(payment.id)} & {
        offender for name in names for offender in found[name]["offenders"]
    } or len(names) > 1


def test_an_unfinished_payment_without_a_job_breaks_an_invariant(admin):
    payment = makers.payment()
    age_two_minutes()
    assert {"no_job_is_overdue", "every_change_has_an_event"} <= broken(admin)
    postgres.rows("DELETE FROM journal.jobs")
    assert check_by_name(admin)["no_payment_is_stuck"]["offenders"] == [str(payment.id)]


def test_a_payment_whose_cancellation_waits_is_not_stuck(admin):
    payment = makers.payment()
    age_two_minutes()
    postgres.rows("DELETE FROM journal.jobs")
    admin.post(f"/payments/{payment.id}/status", {"status": "cancelled", "reason": "late " * 100})
    assert [job.name for job in JobRow.select() if job.args.get("payment_id")] == ["payments.cancel"]
    assert check_by_name(admin)["no_payment_is_stuck"]["offenders"] == []


def test_a_late_charge_is_no_violation_once_it_is_reviewed(admin):
    payment = makers.payment(simulate="decline")
    work()
    postgres.rows("UPDATE psp.charges SET outcome = 'charged'")
    assert "no_failed_or_cancelled_payment_is_charged" in broken(admin)
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    work()
    assert broken(admin) == set()
    assert admin.post(f"/payments/{payment.id}/review", {"reason": "Refunded by the PSP"}).status_code == 200
    assert broken(admin) == set()


def test_a_request_paid_at_the_second_attempt_violates_nothing(admin):
    request = makers.open_request()
    makers.pay(request, simulate="decline")
    work()
    age_two_minutes()
    makers.pay(request)
    work()
    assert makers.reload(request).status == "completed"
    assert broken(admin) == set()
    # Nor a day later, when only one of the two attempts is within the last day.
    behind_our_back("UPDATE payments.payment_transactions SET created_at = created_at - interval '23:59:00'")
    assert broken(admin) == set()


def test_a_missing_and_a_surplus_audit_row_break_an_invariant(admin):
    payment = makers.payment()
    work()
    age_two_minutes()
    behind_our_back(
        "INSERT INTO admin.audit_logs (action, resource_id, created_at)"
        f" VALUES ('payments.payment.complete', '{payment.id}', clock_timestamp())"
    )
    assert check_by_name(admin)["every_change_is_audited"]["offenders"] == [str(payment.id)]
    behind_our_back("DELETE FROM admin.audit_logs WHERE seq IS NULL")
    assert broken(admin) == set()
    behind_our_back("DELETE FROM admin.audit_logs WHERE action = 'payments.payment.begin'")
    assert check_by_name(admin)["every_change_is_audited"]["offenders"] == [str(payment.id)]


def test_money_under_review_is_excluded_from_both_sums(admin):
    payment = makers.payment()
    work()
    age_two_minutes()
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, Decimal("5.00"), "USD"))
    work()
    assert admin.get("/admin/health").json["data"]["needsReview"] == 1
    assert broken(admin) == set()


@pytest.mark.parametrize(
    ("age", "reconciled", "forgotten"),
    [
        ("5 minutes", "80 seconds", False),
        ("5 minutes", "95 seconds", True),
        ("2 hours", "10 minutes", False),
        ("2 hours", "14 minutes", True),
        ("50 seconds", None, False),
        ("2 minutes", None, True),
    ],
)
def test_a_payment_is_unfinished_once_the_reconciler_is_overdue(admin, age, reconciled, forgotten):
    payment = makers.payment()
    payment_jobs.begin.perform(JobRow.get(JobRow.name == "payments.begin").id)
    postgres.rows("DELETE FROM journal.jobs")
    postgres.rows(f"UPDATE payments.payments SET updated_at = clock_timestamp() - interval '{age}'")
    next_at = (
        f"clock_timestamp() - interval '{reconciled}' + greatest(interval '30 s', interval '{age}' / 10)"
        if reconciled
        else f"clock_timestamp() - interval '{age}'"
    )
    postgres.rows(f"UPDATE payments.payments_in_progress SET reconcile_at = {next_at}")
    found = check_by_name(admin)["no_payment_is_stuck"]["offenders"]
    assert found == ([str(payment.id)] if forgotten else [])


def insert_old_rows(count: int) -> None:
    """Inserts this many rows of three days ago into every table that the invariants read."""
    user = makers.user()
    postgres.rows("SET LOCAL session_replication_role = replica; SET LOCAL statement_timeout = '60s'")
    at = "clock_timestamp() - interval '3 days'"
    postgres.rows(
        "INSERT INTO payments.payments (user_id, type, status, amount, created_at, updated_at)"
        f" SELECT %s, 'payment', 'completed', 5, {at}, {at} FROM generate_series(1, %s)",
        user.id,
        count,
    )
    for copied in (
        "payments.payment_transactions (payment_id, transaction_type, amount, currency, from_status, status,"
        f" user_id, created_at) SELECT id, 'complete', 5, 'USD', 'processing', status, user_id, {at}",
        f"psp.charges (idempotency_key, payment_id, amount, currency, outcome, created_at)"
        f" SELECT id::text, id, 5, 'USD', 'charged', {at}",
        f"admin.audit_logs (action, resource_id, created_at) SELECT 'payments.payment.complete', id, {at}",
        "admin.event_log (id, seq, type, data, occurred_at)"
        f" SELECT gen_random_uuid(), 1000000 + row_number() OVER (), 'payments:payment:updated',"
        f" jsonb_build_object('id', id), {at}",
        "journal.jobs (id, name, queue, args, due_at)"
        " SELECT gen_random_uuid(), 'payments.settle', 'payments', jsonb_build_object('payment_id', id),"
        " clock_timestamp() + interval '1 hour'",
    ):
        postgres.rows(f"INSERT INTO {copied} FROM payments.payments WHERE amount = 5")
    postgres.rows("UPDATE admin.event_publication SET seq = (SELECT max(seq) FROM admin.events)")
    postgres.rows("SET LOCAL session_replication_role = origin")
    postgres.rows(
        "ANALYZE payments.payments, payments.payment_transactions, psp.charges, admin.audit_logs,"
        " admin.event_log, journal.jobs"
    )


def test_a_check_reads_only_new_rows(admin):
    makers.payment()
    makers.payment()
    work()
    insert_old_rows(5_000)

    for name in invariants.INVARIANTS:
        before = rows_read()
        found = invariants.check(name, times.now(), since=times.now() - timedelta(days=1), seconds=60)
        assert rows_read() - before < 2000, name
        assert found.ok or name == "event_log_has_no_gaps"


def test_a_check_reads_a_limited_number_of_rows(admin, monkeypatch):
    old = makers.payment()
    work()
    postgres.rows("UPDATE psp.charges SET amount = 1")
    makers.payment()
    work()
    monkeypatch.setattr(invariants, "CHECK_ROWS_LIMIT", 4)
    assert broken(admin) == {"charged_once", "charges_match_completed_amounts"}
    monkeypatch.setattr(invariants, "CHECK_ROWS_LIMIT", 2)
    assert broken(admin) == set(), old.id


def test_a_changed_audit_row_breaks_an_invariant(admin):
    makers.payment()
    work()
    assert check_by_name(admin)["audit_log_is_intact"]["ok"]
    postgres.rows("SET LOCAL session_replication_role = replica")
    [row] = postgres.rows(
        "UPDATE admin.audit_logs SET details = '{}' WHERE seq = (SELECT max(seq) FROM admin.audit_logs)"
        " RETURNING id::text"
    )
    postgres.rows("SET LOCAL session_replication_role = origin")
    assert check_by_name(admin)["audit_log_is_intact"]["offenders"] == [row["id"]]


def test_at_most_twenty_offenders_are_named(admin):
    for _ in range(21):
        postgres.rows(
            "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome)"
            " VALUES (%s, gen_random_uuid(), 1, 'USD', 'charged')",
            str(uuid4()),
        )
    found = check_by_name(admin)["every_charge_has_a_payment"]
    assert (found["count"], len(found["offenders"])) == (21, 20)


def run_scheduled_checks() -> list[str]:
    """Runs what the scheduler enqueues each minute; returns the jobs."""
    makers.enqueue_scheduled(invariant_checks.check_invariants)
    return work()


# For how long a job checks invariants, and how many jobs that makes: one, or one for each of them.
@pytest.mark.parametrize(("check_for_s", "jobs"), [(60, 1), (0, len(invariants.names()))])
def test_the_scheduler_checks_the_invariants(admin, monkeypatch, check_for_s, jobs):
    monkeypatch.setattr(invariant_checks, "CHECK_FOR_S", check_for_s)
    work()
    postgres.rows(
        "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome)"
        " VALUES ('x', gen_random_uuid(), 1, 'USD', 'charged')"
    )
    checks = ["housekeeping.check_invariant"] * jobs
    assert sorted(run_scheduled_checks()) == sorted(
        ["housekeeping.check_invariants", "housekeeping.verify_audit_log", *checks]
    )
    [one] = [each for each in get_invariants(admin)["invariants"] if not each["ok"]]
    assert (one["name"], one["count"], one["offenders"]) == ("every_charge_has_a_payment", 1, ["x"])
    values = metric(admin, "paywright_invariant_violations")
    assert {name for name, value in values.items() if value} == {"every_charge_has_a_payment"}
    ages = metric(admin, "paywright_invariant_check_age_seconds")
    assert ages.keys() == values.keys() == set(invariants.names())
    assert all(0 <= age < 60 for age in ages.values())


def test_no_invariant_is_ok_before_its_first_check(admin):
    data = get_invariants(admin)
    assert (data["ok"], data["checkedAt"]) == (False, None)
    for each in data["invariants"]:
        assert (each["ok"], each["count"], each["checkedAt"], each["offenders"]) == (False, None, None, [])
        assert each["reason"] == "it has not been checked yet"
    assert set(metric(admin, "paywright_invariant_ok").values()) == {0}
    assert set(metric(admin, "paywright_invariant_check_age_seconds").values()) == {math.inf}


def test_an_invariant_whose_check_times_out_is_not_ok_and_delays_no_other(admin, monkeypatch):
    work()
    run_scheduled_checks()
    assert get_invariants(admin)["ok"]
    monkeypatch.setitem(invariants.INVARIANTS, "charged_once", "SELECT pg_sleep(5)::text AS id")
    monkeypatch.setattr(invariant_checks, "CHECK_TIMEOUT_S", 0.2)
    check = invariants.check

    def check_patiently(name: str, at: datetime, *, seconds: float, since: datetime) -> invariants.Invariant:
        """The others have the time that a loaded machine needs."""
        return check(name, at, seconds=seconds if name == "charged_once" else 60, since=since)

    monkeypatch.setattr(invariants, "check", check_patiently)
    monkeypatch.setattr(times, "now", later(minutes=1))
    run_scheduled_checks()
    [slow] = [each for each in get_invariants(admin)["invariants"] if not each["ok"]]
    assert (slow["name"], slow["count"], slow["offenders"]) == ("charged_once", None, [])
    assert slow["reason"] == "the check took longer than 0.2 s"
    assert math.isnan(metric(admin, "paywright_invariant_violations")["charged_once"])


def test_an_invariant_whose_check_fails_is_not_ok(admin, monkeypatch):
    work()
    monkeypatch.setitem(invariants.INVARIANTS, "charged_once", "SELECT no_such_column")
    run_scheduled_checks()
    [each] = [each for each in get_invariants(admin)["invariants"] if not each["ok"]]
    assert (each["name"], each["count"], each["reason"]) == ("charged_once", None, "the check failed")


def test_an_old_result_is_not_ok(admin):
    work()
    run_scheduled_checks()
    assert get_invariants(admin)["ok"]
    postgres.rows("UPDATE admin.invariants SET checked_at = checked_at - interval '11 minutes'")
    stale = {each["name"] for each in get_invariants(admin)["invariants"] if not each["ok"]}
    # The whole log is verified once a day only.
    assert stale == set(invariants.names()) - {"audit_log_is_intact"}
    assert math.isnan(metric(admin, "paywright_invariant_violations")["charged_once"])
    assert metric(admin, "paywright_invariant_check_age_seconds")["charged_once"] > 600
    postgres.rows("UPDATE admin.invariants SET checked_at = checked_at - interval '37 hours'")
    assert not any(each["ok"] for each in get_invariants(admin)["invariants"])


def test_checks_requested_together_are_audited_and_run_once(admin):
    work()
    for _ in range(3):
        result = admin.post("/admin/invariants")
        assert (result.status_code, result.json["data"]["ok"]) == (202, False)
    assert work().count("housekeeping.check_invariant") <= 2 * len(invariants.names())
    assert get_invariants(admin)["ok"]
    notes = [row.action for row in audit_log.AuditLog.select()].count("admin.invariants.checked")
    assert notes == 3


# --- the audit log --------------------------------------------------------------------------------------


def later(**more: float) -> Callable[[], datetime]:
    """Returns a clock that is ahead."""
    real = times.now
    return lambda: real() + timedelta(**more)


def add_audit_rows(user: Visitor, count: int) -> None:
    for _ in range(count):
        registered(user.client)
    work()


def audit_log_invariants(user: Visitor) -> dict[str, Any]:
    return {each["name"]: each for each in get_invariants(user)["invariants"] if "audit_log" in each["name"]}


@pytest.mark.parametrize(
    "tampered",
    [
        "UPDATE admin.audit_logs SET details = '[]' WHERE seq = 2",
        "DELETE FROM admin.audit_logs WHERE seq = 2",
        "UPDATE admin.audit_logs SET details = '[]' WHERE seq = (SELECT max(seq) FROM admin.audit_logs)",
        "DELETE FROM admin.audit_logs WHERE seq = (SELECT max(seq) FROM admin.audit_logs)",
    ],
)
def test_the_scheduler_finds_a_changed_audit_log(admin, tampered, monkeypatch):
    add_audit_rows(admin, 3)
    run_scheduled_checks()
    assert all(each["ok"] for each in audit_log_invariants(admin).values())
    behind_our_back(tampered)
    logged: list[tuple[str, Any]] = []
    monkeypatch.setattr(
        invariant_checks.log,
        "error",
        lambda event, **more: logged.append((event, more["invariant"])),
        raising=False,
    )
    monkeypatch.setattr(times, "now", later(minutes=1))
    run_scheduled_checks()
    assert not audit_log_invariants(admin)["audit_log_is_intact"]["ok"]
    assert ("invariant violated", "audit_log_is_intact") in logged
    assert metric(admin, "paywright_invariant_violations")["audit_log_is_intact"] == 1


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_long_audit_log_is_verified_whole_daily_and_its_newest_rows_each_minute(client, monkeypatch, step):
    monkeypatch.setattr(audit_chain, "STEP_ROWS", step)
    monkeypatch.setattr(invariant_checks, "VERIFY_EVERY_MINUTE_UP_TO", 0)
    # A token of noon would have expired in the afternoon.
    admin = visitor(client, Role.ADMIN)
    noon = times.now().replace(hour=12)
    monkeypatch.setattr(times, "now", lambda: noon)
    add_audit_rows(admin, 4)
    [rows] = postgres.rows("SELECT count(*) AS many FROM admin.audit_logs")
    done = run_scheduled_checks()
    assert done.count("housekeeping.verify_audit_log") == -(-rows["many"] // step)
    assert all(each["ok"] for each in audit_log_invariants(admin).values())

    # A change of an old row is found the next day.
    behind_our_back("UPDATE admin.audit_logs SET details = '[]' WHERE seq = 2")
    monkeypatch.setattr(times, "now", lambda: noon + timedelta(minutes=1))
    assert "housekeeping.verify_audit_log" not in run_scheduled_checks()
    monkeypatch.setattr(times, "now", lambda: noon + timedelta(hours=12, minutes=1))
    assert "housekeeping.verify_audit_log" in run_scheduled_checks()
    found = audit_log_invariants(visitor(client, Role.ADMIN))
    [second] = postgres.rows("SELECT id::text FROM admin.audit_logs WHERE seq = 2")
    assert found["newest_audit_log_entries_are_intact"]["ok"]
    assert found["audit_log_is_intact"]["offenders"] == [second["id"]]


@pytest.mark.parametrize(
    "tampered",
    [
        "DELETE FROM admin.audit_logs WHERE seq = (SELECT max(seq) FROM admin.audit_logs)",
        # With its seal: the rest of the chain is consistent.
        "WITH gone AS (DELETE FROM admin.audit_logs WHERE seq = (SELECT seq FROM admin.audit_seal))"
        " UPDATE admin.audit_seal seal SET seq = log.seq, hash = log.hash FROM admin.audit_logs log"
        " WHERE log.seq = seal.seq - 1",
        "UPDATE admin.audit_seal SET hash = sha256('')",
        "DELETE FROM admin.audit_seal",
    ],
)
def test_a_removed_newest_row_is_found_within_the_minute(admin, monkeypatch, tampered):
    add_audit_rows(admin, 3)
    run_scheduled_checks()
    monkeypatch.setattr(invariant_checks, "VERIFY_EVERY_MINUTE_UP_TO", 0)
    behind_our_back(tampered)
    monkeypatch.setattr(times, "now", later(minutes=1))
    run_scheduled_checks()
    assert not audit_log_invariants(admin)["newest_audit_log_entries_are_intact"]["ok"]


def test_a_verification_that_lost_its_next_step_continues_with_the_next_minute(admin, monkeypatch):
    add_audit_rows(admin, 5)
    monkeypatch.setattr(audit_chain, "STEP_ROWS", 2)
    makers.enqueue_scheduled(invariant_checks.check_invariants)
    invariant_checks.check_invariants.perform(JobRow.get().id)
    [first] = JobRow.select().where(JobRow.name == invariant_checks.verify_audit_log.name)
    invariant_checks.verify_audit_log.perform(first.id)
    postgres.rows("DELETE FROM journal.jobs")
    place = audit_chain.load_position(audit_chain.WHOLE)
    assert place is not None
    assert place.seq == 2
    monkeypatch.setattr(times, "now", later(minutes=1))
    run_scheduled_checks()
    assert audit_chain.load_position(audit_chain.WHOLE) is None
    assert audit_log_invariants(admin)["audit_log_is_intact"]["ok"]


def behind_our_back(sql: str) -> None:
    with makers.triggers_disabled():
        assert postgres.rows(f"{sql} RETURNING 1")
