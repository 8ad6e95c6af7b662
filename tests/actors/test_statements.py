"""The end of a day: what the PSP says it decided, held against what we know."""

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
from db import audit_log, job_journal, postgres, statements
from db.payments import Payment
from db.statements import Statement, StatementLine
from tests import makers
from tests.makers import work

pytestmark = pytest.mark.usefixtures("database")

DAY, BEFORE = date(2026, 3, 1), date(2026, 2, 28)
NOON = "2026-03-01T12:00:00Z"
OVER = "2026-03-02T00:30:00Z"
CHAIN = ["statements.start", "statements.fetch", "statements.store", "statements.match"]


@pytest.fixture(autouse=True)
def log(monkeypatch) -> structlog.testing.CapturingLogger:
    """What an operator reads."""
    capturing = structlog.testing.CapturingLogger()
    monkeypatch.setattr(statement_matching, "log", capturing)
    return capturing


def close(at: str = OVER) -> list[str]:
    """What the scheduler does at this moment, and what follows."""
    with freezegun.freeze_time(at):
        makers.enqueue_scheduled(statement_matching.start)
        return work()


def lived(charged_at: str = NOON, completed_at: str | None = None, **metadata: Any) -> Payment:
    """A payment that came to its end on that day, by its own clock and the PSP's."""
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


def booked(reference: str) -> None:
    """The PSP has an order of which we know nothing."""
    postgres.rows(
        "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome, created_at)"
        " VALUES (%s, gen_random_uuid(), 1, 'USD', 'charged', %s)",
        *(reference, NOON),
    )


def reported() -> list[tuple[str, str]]:
    """What the audit log says: which reference, and why."""
    rows = audit_log.AuditLog.select().where(audit_log.AuditLog.action == "payments.statement.differs")
    return [
        (row.details["reference"], row.details["reason"])
        for row in rows.order_by(audit_log.AuditLog.created_at)
    ]


def matched(day: date = DAY) -> tuple[int, int] | None:
    """How many lines that day had, and how many differences; None when it was not matched."""
    found = Statement.get_or_none(Statement.day == day)
    return (found.lines, found.differences) if found else None


def test_on_a_good_day_nothing_differs():
    good = [
        lived(simulate=word) for word in ("approve", "decline", "timeout", "duplicate", "error", "outage")
    ]
    assert close() == CHAIN
    # Of the outage the PSP has never heard.
    assert matched() == (5, 0)
    assert reported() == []
    assert [makers.review(payment) for payment in good] == [None] * 6


def test_a_day_without_a_payment_is_a_good_day():
    assert close() == CHAIN
    assert matched() == (0, 0)


def test_a_line_is_kept_as_the_psp_sent_it():
    payment = lived()
    close()
    line = StatementLine.get_by_id(str(payment.id))
    assert (line.day, line.amount, line.currency, line.outcome) == (DAY, payment.amount, "USD", "charged")
    assert line.booked_at.isoformat() == "2026-03-01T12:00:00+00:00"


BOOK = (
    "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome, created_at)"
    f" SELECT id, id, amount, currency, 'charged', '{NOON}' FROM payments.payments WHERE id = %s"
)


def changed(column: str, value: str) -> str:
    return f"UPDATE psp.charges SET {column} = '{value}' WHERE payment_id = %s"


@pytest.mark.parametrize(
    ("simulate", "behind_our_back", "reason"),
    [
        ("decline", changed("outcome", "charged"), "charged, but the payment is failed"),
        ("outage", BOOK, "charged, but the payment is failed"),
        ("blackout", BOOK, "charged, but the payment is processing"),
        ("approve", changed("outcome", "declined"), "declined, but the payment is completed"),
        ("approve", changed("amount", "12.49"), "charged 12.49 USD, but the payment is over 12.50 USD"),
        ("decline", changed("amount", "12.49"), "declined 12.49 USD, but the payment is over 12.50 USD"),
        ("approve", changed("currency", "EUR"), "charged 12.50 EUR, but the payment is over 12.50 USD"),
        ("approve", "DELETE FROM psp.charges WHERE payment_id = %s", "completed, but never charged"),
    ],
)
def test_every_difference_is_told_to_everybody_who_should_know(log, simulate, behind_our_back, reason):
    lived()
    payment = lived(simulate=simulate)
    postgres.rows(behind_our_back, payment.id)

    assert close() == CHAIN

    [told] = [call for call in log.calls if call.method_name == "error"]
    assert (told.kwargs["reference"], told.kwargs["reason"]) == (str(payment.id), reason)
    [row] = [row for row in audit_log.of_resource(payment.id) if row.action == "payments.statement.differs"]
    assert (row.resource_type, row.user_id) == ("payment", None)
    assert row.details == {"day": "2026-03-01", "reference": str(payment.id), "reason": reason}
    after = makers.reload(payment)
    assert str(makers.review(after)).endswith(f"the PSP's statement says: {reason}")
    # A person decides: nothing is changed by a guess.
    assert (after.status, after.version) == (payment.status, payment.version)
    assert reported() == [(str(payment.id), reason)]
    found = matched()
    assert found is not None
    assert found[1] == 1


@pytest.mark.parametrize("reference", ["11111111-2222-4333-8444-555555555555", "order-77", "", "'; --"])
def test_an_order_that_is_not_ours_is_told_too(log, reference):
    booked(reference)
    assert close() == CHAIN
    assert reported() == [(reference, "charged, and there is no such payment")]
    assert [call.kwargs["reference"] for call in log.calls if call.method_name == "error"] == [reference]
    assert matched() == (1, 1)


def test_a_line_that_fits_no_payment_is_told_and_keeps_no_other_from_it(monkeypatch):
    payment, stub = lived(), makers.stub()
    ours = stub.statement(DAY, None)
    other = replace(
        ours.lines[0],
        id="\N{EURO SIGN}" * 3000 + "\0",
        key="order " * 60,
        amount=Decimal("1E+12"),
        currency="USDT",
    )
    monkeypatch.setattr(
        stub, "statement", lambda _day, _after: provider.Statement([*ours.lines, other], None)
    )
    provider.choose(stub)
    assert close() == CHAIN
    assert matched() == (2, 1)
    assert reported() == [("order " * 60, "charged, and there is no such payment")]
    assert makers.review(payment) is None


def test_a_request_is_no_payment_though_its_id_is_known():
    request = makers.open_request()
    booked(str(request.id))
    close()
    assert reported() == [(str(request.id), "charged, and there is no such payment")]
    assert makers.review(request) is None


def test_a_day_is_matched_once():
    booked("order-77")
    close()
    before = Statement.get_by_id(DAY).matched_at
    for at in (OVER, "2026-03-02T00:45:00Z", "2026-03-02T23:45:00Z"):
        assert close(at) == ["statements.start"]
    assert reported() == [("order-77", "charged, and there is no such payment")]
    assert Statement.get_by_id(DAY).matched_at == before


def test_a_day_that_waits_to_be_fetched_is_promised_once():
    with freezegun.freeze_time(OVER), transaction():
        for _ in range(3):
            enqueue(statement_matching.start.job())
    assert close() == ["statements.start"] * 4 + CHAIN[1:]


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-03-01T23:59:59Z", BEFORE),
        # What was begun before midnight may take a while.
        ("2026-03-02T00:29:59Z", BEFORE),
        ("2026-03-02T00:30:00Z", DAY),
        ("2026-03-03T00:29:59Z", DAY),
    ],
)
def test_a_day_is_over_half_an_hour_after_midnight_in_utc(at, day):
    assert close(at) == CHAIN
    assert [row.day for row in Statement.select()] == [day]


@pytest.mark.parametrize("simulate", ["approve", "decline"])
def test_what_is_charged_before_midnight_and_settled_after_it_is_no_difference(simulate):
    lived("2026-03-01T23:59:59.999Z", "2026-03-02T00:00:03Z", simulate=simulate)
    close("2026-03-02T00:30:00Z")
    close("2026-03-03T00:30:00Z")
    assert (matched(DAY), matched(date(2026, 3, 2))) == ((1, 0), (0, 0))
    assert reported() == []


def test_a_long_statement_comes_in_parts():
    for place in range(501):
        booked(f"order-{place}")
    assert close() == [*CHAIN[:-1], *CHAIN[1:]]
    assert matched() == (501, 501)
    assert len(reported()) == 100


def test_what_is_charged_twice_is_seen_though_both_lines_are_right():
    payment = lived()
    close()
    assert matched() == (1, 0)
    again = StatementLine.get()
    for id, day in (("another", DAY), ("a third", date(2026, 3, 2))):
        line = {**again.__data__, "id": id, "day": day}
        statements.add_lines([line, line])
    [found] = statements.find_differences(DAY)
    assert (found.payment_id, found.reason) == (payment.id, "charged 3 times")
    assert [it.reason for it in statements.find_differences(date(2026, 3, 2))] == ["charged 3 times"]


def test_a_day_that_cannot_be_matched_keeps_no_other_from_it(monkeypatch):
    close()
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
        while row := job_journal.JobRow.get_or_none(job_journal.JobRow.error.is_null()):
            jobs.registry[row.name].perform(row.id)
    assert matched(date(2026, 3, 2)) is None
    assert matched(date(2026, 3, 3)) is not None
    assert matched(date(2026, 3, 4)) is not None


def test_a_statement_goes_on_where_the_psp_was_away(monkeypatch):
    for place in range(501):
        booked(f"order-{place}")
    stub, asked = makers.stub(), []
    ledger = stub.statement
    provider.choose(stub)

    def away(day: date, after: str | None) -> provider.Statement:
        asked.append(after)
        if len(asked) == 2:
            raise provider.Unavailable
        return ledger(day, after)

    monkeypatch.setattr(stub, "statement", away)
    with pytest.raises(AssertionError, match=r"statements\.fetch is still to be done"):
        close()
    assert matched() is None
    assert work() == ["statements.fetch", "statements.store", "statements.match"]
    assert matched() == (501, 501)
    assert asked[0] is None
    assert asked[1] == asked[2] is not None


def test_a_mark_of_a_payment_that_is_settled_after_all_is_gone():
    payment = lived(simulate="blackout")
    postgres.rows(BOOK, payment.id)
    close()
    assert makers.review(payment)
    with transaction():
        enqueue(payment_jobs.inquire.job(payment.id))
    work()
    assert (makers.reload(payment).status, makers.review(payment)) == ("completed", None)


def test_a_chain_that_is_under_way_is_not_begun_again():
    booked("order-77")
    for at in (OVER, "2026-03-02T00:45:00Z"):
        with freezegun.freeze_time(at):
            makers.enqueue_scheduled(statement_matching.start)
            for name in ("statements.start", "statements.fetch"):
                for row in list(job_journal.JobRow.select().where(job_journal.JobRow.name == name)):
                    jobs.registry[name].perform(row.id)
    work()
    assert len(reported()) == 1


def test_after_a_standstill_of_weeks_every_day_is_matched():
    close()
    booked("order-77")
    postgres.rows("UPDATE psp.charges SET created_at = '2026-03-03T12:00:00Z'")
    close("2026-04-02T00:30:00Z")
    assert [row.day for row in Statement.select().order_by(Statement.day)] == [
        DAY + timedelta(days=days) for days in range(32)
    ]
    assert matched(date(2026, 3, 3)) == (1, 1)


def test_after_a_standstill_of_months_the_days_are_matched_some_at_a_time():
    Statement.insert(day=date(2025, 3, 1), lines=0, differences=0).execute()
    for days in (100, 200):
        close("2026-03-02T00:30:00Z")
        assert Statement.select().count() == days + 1
    assert matched(DAY) is not None


def test_a_day_that_is_not_over_by_the_databases_clock_is_not_closed_by_a_worker_that_is_ahead():
    [clock] = postgres.rows("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS today")
    close(f"{clock['today'] + timedelta(days=3)}T02:00:00Z")
    assert [row.day for row in Statement.select() if row.day > clock["today"]] == []


def test_after_a_standstill_every_day_is_matched_one_by_one():
    close()
    assert matched() is not None
    for day in (2, 3, 4):
        close(f"2026-03-05T0{day}:00:00Z")
        assert matched(date(2026, 3, day)) is not None
    close("2026-03-05T09:00:00Z")
    assert matched(date(2026, 3, 5)) is None
