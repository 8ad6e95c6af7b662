"""The match of the PSP's statement of a day with the payments."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import freezegun
import pytest
import structlog.testing

from actors import jobs, payment_jobs, statement_matching
from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.psp import stub as stub_module
from db import audit_log, postgres, statements
from db.payments import Payment
from db.statements import StatementLine
from tests import makers
from tests.makers import work
from tests.tables import JobRow, Statement

pytestmark = pytest.mark.usefixtures("database")

DAY, DAY_BEFORE = date(2026, 3, 1), date(2026, 2, 28)
NOON = "2026-03-01T12:00:00Z"
CLOSED = "2026-03-02T00:30:00Z"
CHAIN = ["statements.start", "statements.fetch", "statements.store", "statements.match"]


@pytest.fixture(autouse=True)
def log(monkeypatch) -> structlog.testing.CapturingLogger:
    """The log lines of the match."""
    capturing = structlog.testing.CapturingLogger()
    monkeypatch.setattr(statement_matching, "log", capturing)
    return capturing


def run_matching(at: str = CLOSED) -> list[str]:
    """Run the match as the scheduler does at this moment; return the jobs that ran."""
    with freezegun.freeze_time(at):
        makers.enqueue_scheduled(statement_matching.start)
        return work()


def ended_payment(charged_at: str = NOON, completed_at: str | None = None, **metadata: Any) -> Payment:
    """A payment that ended on that day, by our clock and the PSP's."""
    payment = makers.payment(**metadata)
    work()
    payment = makers.reload(payment)
    postgres.rows("UPDATE psp.charges SET created_at = %s WHERE payment_id = %s", charged_at, payment.id)
    with makers.triggers_disabled():
        postgres.rows(
            "UPDATE payments.payment_transactions SET created_at = %s WHERE payment_id = %s",
            *(completed_at or charged_at, payment.id),
        )
    return payment


def insert_foreign_charge(reference: str) -> None:
    """Insert a charge that belongs to no payment of ours."""
    postgres.rows(
        "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome, created_at)"
        " VALUES (%s, gen_random_uuid(), 1, 'USD', 'charged', %s)",
        *(reference, NOON),
    )


def reported() -> list[tuple[str, str]]:
    """The differences in the audit log: reference and reason."""
    rows = audit_log.AuditLog.select().where(audit_log.AuditLog.action == "payments.statement.differs")
    return [
        (row.details["reference"], row.details["reason"])
        for row in rows.order_by(audit_log.AuditLog.created_at)
    ]


def matched(day: date = DAY) -> tuple[int, int] | None:
    """The number of lines and of differences of a day; None if the day was not matched."""
    found = Statement.get_or_none(Statement.day == day)
    return (found.lines, found.differences) if found else None


def test_payments_that_agree_with_the_statement_are_no_difference():
    ended = [
        ended_payment(simulate=scenario)
        for scenario in ("approve", "decline", "timeout", "duplicate", "error", "outage")
    ]
    assert run_matching() == CHAIN
    # The outage left no order at the PSP.
    assert matched() == (5, 0)
    assert reported() == []
    assert [makers.review(payment) for payment in ended] == [None] * 6


def test_a_day_without_payments_is_matched():
    assert run_matching() == CHAIN
    assert matched() == (0, 0)


def test_a_line_is_stored_as_the_psp_sent_it():
    payment = ended_payment()
    run_matching()
    line = StatementLine.get_by_id(str(payment.id))
    assert (line.day, line.amount, line.currency, line.outcome) == (DAY, payment.amount, "USD", "charged")
    assert line.booked_at.isoformat() == "2026-03-01T12:00:00+00:00"


INSERT_CHARGE = (
    "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome, created_at)"
    f" SELECT id, id, amount, currency, 'charged', '{NOON}' FROM payments.payments WHERE id = %s"
)


def update_charge(column: str, value: str) -> str:
    return f"UPDATE psp.charges SET {column} = '{value}' WHERE payment_id = %s"


@pytest.mark.parametrize(
    ("simulate", "change", "reason"),
    [
        ("decline", update_charge("outcome", "charged"), "charged, but the payment is failed"),
        ("outage", INSERT_CHARGE, "charged, but the payment is failed"),
        ("blackout", INSERT_CHARGE, "charged, but the payment is processing"),
        ("approve", update_charge("outcome", "declined"), "declined, but the payment is completed"),
        ("approve", update_charge("amount", "12.49"), "charged 12.49 USD, but the payment is over 12.50 USD"),
        (
            "decline",
            update_charge("amount", "12.49"),
            "declined 12.49 USD, but the payment is over 12.50 USD",
        ),
        ("approve", update_charge("currency", "EUR"), "charged 12.50 EUR, but the payment is over 12.50 USD"),
        ("approve", "DELETE FROM psp.charges WHERE payment_id = %s", "completed, but never charged"),
    ],
)
def test_a_difference_is_logged_audited_and_reviewed(log, simulate, change, reason):
    ended_payment()
    payment = ended_payment(simulate=simulate)
    postgres.rows(change, payment.id)

    assert run_matching() == CHAIN

    [line] = [call for call in log.calls if call.method_name == "error"]
    assert (line.kwargs["reference"], line.kwargs["reason"]) == (str(payment.id), reason)
    [row] = [row for row in makers.audit_entries(payment.id) if row.action == "payments.statement.differs"]
    assert (row.resource_type, row.user_id) == ("payment", None)
    assert row.details == {"day": "2026-03-01", "reference": str(payment.id), "reason": reason}
    after = makers.reload(payment)
    assert str(makers.review(after)).endswith(f"the PSP's statement says: {reason}")
    # The payment is unchanged: a person decides.
    assert (after.status, after.version) == (payment.status, payment.version)
    assert reported() == [(str(payment.id), reason)]
    found = matched()
    assert found is not None
    assert found[1] == 1


@pytest.mark.parametrize("reference", ["11111111-2222-4333-8444-555555555555", "order-77", "", "'; --"])
def test_an_order_without_a_payment_is_a_difference(log, reference):
    insert_foreign_charge(reference)
    assert run_matching() == CHAIN
    assert reported() == [(reference, "charged, and there is no such payment")]
    assert [call.kwargs["reference"] for call in log.calls if call.method_name == "error"] == [reference]
    assert matched() == (1, 1)


def test_a_line_with_oversized_values_is_a_difference_and_does_not_stop_the_match(monkeypatch):
    payment, stub = ended_payment(), makers.stub()
    ours = stub.statement(DAY, None)
    other = replace(
        ours.lines[0],
        id="\N{EURO SIGN}" * 3000 + "\0",
        reference="order " * 60,
        amount=Decimal("1E+12"),
        currency="USDT",
    )
    monkeypatch.setattr(
        stub, "statement", lambda _day, _after: provider.Statement([*ours.lines, other], None)
    )
    provider.choose(stub)
    assert run_matching() == CHAIN
    assert matched() == (2, 1)
    assert reported() == [("order " * 60, "charged, and there is no such payment")]
    assert makers.review(payment) is None


def test_an_order_with_the_id_of_a_request_is_a_difference():
    request = makers.open_request()
    insert_foreign_charge(str(request.id))
    run_matching()
    assert reported() == [(str(request.id), "charged, and there is no such payment")]
    assert makers.review(request) is None


def test_a_day_is_matched_once():
    insert_foreign_charge("order-77")
    run_matching()
    before = Statement.get_by_id(DAY).matched_at
    for at in (CLOSED, "2026-03-02T00:45:00Z", "2026-03-02T23:45:00Z"):
        assert run_matching(at) == ["statements.start"]
    assert reported() == [("order-77", "charged, and there is no such payment")]
    assert Statement.get_by_id(DAY).matched_at == before


def test_fetch_is_enqueued_once_for_a_day():
    with freezegun.freeze_time(CLOSED), transaction():
        for _ in range(3):
            enqueue(statement_matching.start.job())
    assert run_matching() == ["statements.start"] * 4 + CHAIN[1:]


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-03-01T23:59:59Z", DAY_BEFORE),
        # A payment begun before midnight may take a while.
        ("2026-03-02T00:29:59Z", DAY_BEFORE),
        ("2026-03-02T00:30:00Z", DAY),
        ("2026-03-03T00:29:59Z", DAY),
    ],
)
def test_a_day_closes_half_an_hour_after_midnight_utc(at, day):
    assert run_matching(at) == CHAIN
    assert [row.day for row in Statement.select()] == [day]


@pytest.mark.parametrize("simulate", ["approve", "decline"])
def test_a_charge_before_midnight_that_is_settled_after_midnight_is_no_difference(simulate):
    ended_payment("2026-03-01T23:59:59.999Z", "2026-03-02T00:00:03Z", simulate=simulate)
    run_matching("2026-03-02T00:30:00Z")
    run_matching("2026-03-03T00:30:00Z")
    assert (matched(DAY), matched(date(2026, 3, 2))) == ((1, 0), (0, 0))
    assert reported() == []


@pytest.fixture
def short_parts(monkeypatch):
    """A part of a statement has 20 lines, and ten differences are reported one by one."""
    monkeypatch.setattr(stub_module, "_STATEMENT_LINES", 20)
    monkeypatch.setattr(statement_matching, "REPORTED_ONE_BY_ONE", 10)


@pytest.mark.usefixtures("short_parts")
def test_a_long_statement_is_fetched_in_parts():
    for number in range(21):
        insert_foreign_charge(f"order-{number}")
    assert run_matching() == [*CHAIN[:-1], *CHAIN[1:]]
    assert matched() == (21, 21)
    assert len(reported()) == 10


def test_a_payment_charged_twice_is_a_difference():
    payment = ended_payment()
    run_matching()
    assert matched() == (1, 0)
    again = StatementLine.get()
    for id, day in (("another", DAY), ("a third", date(2026, 3, 2))):
        line = {**again.__data__, "id": id, "day": day}
        statements.add_lines([line, line])
    [found] = statements.find_differences(DAY)
    assert (found.payment_id, found.reason) == (payment.id, "charged 3 times")
    assert [difference.reason for difference in statements.find_differences(date(2026, 3, 2))] == [
        "charged 3 times"
    ]


def test_a_day_that_cannot_be_fetched_does_not_hold_up_other_days(monkeypatch):
    run_matching()
    stub = makers.stub()
    ledger = stub.statement
    provider.choose(stub)

    def broken(day: date, after: str | None) -> provider.Statement:
        if day == date(2026, 3, 2):
            raise provider.Unavailable
        return ledger(day, after)

    monkeypatch.setattr(stub, "statement", broken)
    with freezegun.freeze_time("2026-03-05T02:00:00Z"):
        makers.enqueue_scheduled(statement_matching.start)
        while row := JobRow.get_or_none(JobRow.error.is_null()):
            jobs.registry[row.name].perform(row.id)
    assert matched(date(2026, 3, 2)) is None
    assert matched(date(2026, 3, 3)) is not None
    assert matched(date(2026, 3, 4)) is not None


@pytest.mark.usefixtures("short_parts")
def test_a_statement_continues_at_the_part_where_the_psp_was_unavailable(monkeypatch):
    for number in range(21):
        insert_foreign_charge(f"order-{number}")
    stub, calls = makers.stub(), []
    ledger = stub.statement
    provider.choose(stub)

    def unavailable(day: date, after: str | None) -> provider.Statement:
        calls.append(after)
        if len(calls) == 2:
            raise provider.Unavailable
        return ledger(day, after)

    monkeypatch.setattr(stub, "statement", unavailable)
    with pytest.raises(AssertionError, match=r"statements\.fetch was not done"):
        run_matching()
    assert matched() is None
    assert work() == ["statements.fetch", "statements.store", "statements.match"]
    assert matched() == (21, 21)
    assert calls[0] is None
    assert calls[1] == calls[2] is not None


def test_a_review_is_resolved_when_the_payment_comes_to_what_the_statement_says():
    payment = ended_payment(simulate="blackout")
    postgres.rows(INSERT_CHARGE, payment.id)
    run_matching()
    assert makers.review(payment)
    with transaction():
        enqueue(payment_jobs.inquire_job(payment.id))
    work()
    assert (makers.reload(payment).status, makers.review(payment)) == ("completed", None)


def test_a_day_that_is_being_fetched_is_not_started_again():
    insert_foreign_charge("order-77")
    for at in (CLOSED, "2026-03-02T00:45:00Z"):
        with freezegun.freeze_time(at):
            makers.enqueue_scheduled(statement_matching.start)
            for name in ("statements.start", "statements.fetch"):
                for row in list(JobRow.select().where(JobRow.name == name)):
                    jobs.registry[name].perform(row.id)
    work()
    assert len(reported()) == 1


def test_every_day_of_an_outage_is_matched():
    run_matching()
    insert_foreign_charge("order-77")
    postgres.rows("UPDATE psp.charges SET created_at = '2026-03-03T12:00:00Z'")
    run_matching("2026-03-17T00:30:00Z")
    assert [row.day for row in Statement.select().order_by(Statement.day)] == [
        DAY + timedelta(days=days) for days in range(16)
    ]
    assert matched(date(2026, 3, 3)) == (1, 1)


def test_the_days_of_a_long_outage_are_matched_in_batches(monkeypatch):
    monkeypatch.setattr(statement_matching, "DAYS_AT_ONCE", 10)
    Statement.insert(day=date(2026, 1, 1), lines=0, differences=0).execute()
    for days in (10, 20):
        run_matching("2026-03-02T00:30:00Z")
        assert Statement.select().count() == days + 1
    assert matched(DAY) is not None


def test_a_worker_whose_clock_is_ahead_does_not_match_a_day_that_the_database_is_still_in():
    [clock] = postgres.rows("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS today")
    run_matching(f"{clock['today'] + timedelta(days=3)}T02:00:00Z")
    assert [row.day for row in Statement.select() if row.day > clock["today"]] == []


def test_missed_days_are_matched_once():
    run_matching()
    assert matched() is not None
    for day in (2, 3, 4):
        run_matching(f"2026-03-05T0{day}:00:00Z")
        assert matched(date(2026, 3, day)) is not None
    run_matching("2026-03-05T09:00:00Z")
    assert matched(date(2026, 3, 5)) is None
