"""Payments whose PSP is unavailable, silent, slow, late, answers twice, or after the payment ended."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from actors import jobs, payable, payment_endings, payment_jobs, payment_reconciliation, transitions
from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.psp.provider import Answer, Outcome
from actors.psp.resolution import MAX_CHARGE_CALLS, MAY_ARRIVE_FOR
from actors.psp.stub import Stub
from db import audit_log, event_log, job_journal, payments, postgres, psp_attempts, psp_ledger
from db.core.request_context import RequestContext
from db.payments import Payment
from db.users import Role
from tests import makers
from tests.makers import pay, work
from tests.tables import JobRow

pytestmark = pytest.mark.usefixtures("database")

CHARGED, NO_ANSWER, UNAVAILABLE, NOT_FOUND = "charged", "no_answer", "unavailable", "not_found"
MAY_ARRIVE_S = MAY_ARRIVE_FOR.total_seconds()
RETRY = [("find", NOT_FOUND), ("charge", UNAVAILABLE)]


def attempts(payment: Payment) -> list[tuple[str, str | None]]:
    """The recorded calls of the PSP: operation and outcome."""
    return [(call.operation, call.outcome) for call in psp_attempts.for_payment(payment.id)]


def charges(payment: Payment) -> list[str]:
    """The outcomes in the PSP's ledger."""
    found = psp_ledger.Charge.select().where(psp_ledger.Charge.payment_id == payment.id)
    return [charge.outcome for charge in found]


def history(payment: Payment) -> list[str]:
    return [row.transaction_type for row in payments.history(payment.id)]


def refusals(payment: Payment) -> list[audit_log.AuditLog]:
    work()
    return [row for row in makers.audit_entries(payment.id) if row.action == "payments.transition.refused"]


def enqueue_and_run(*queued: job_journal.Job) -> list[str]:
    """Enqueue these jobs, and run all jobs."""
    with transaction():
        for job in queued:
            enqueue(job)
    return work()


def run(*names: str) -> None:
    """Run the jobs with these names, and no others."""
    for name in names:
        for row in list(JobRow.select().where(JobRow.name == name)):
            jobs.registry[name].perform(row.id)


def payment_without_jobs(**metadata: Any) -> Payment:
    """A payment that is `processing`, and whose jobs are lost."""
    payment = makers.payment(**metadata)
    run("payments.begin")
    postgres.rows("DELETE FROM journal.jobs WHERE name = 'payments.charge'")
    assert makers.reload(payment).status == "processing"
    return payment


def insert_charge(payment: Payment, outcome: str = CHARGED) -> None:
    """Insert the order into the PSP's ledger."""
    postgres.rows(
        "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome)"
        " VALUES (%s, %s, %s, %s, %s)",
        *(str(payment.id), payment.id, payment.amount, payment.currency, outcome),
    )


def record_call(payment: Payment, outcome: str | None, *, ago: float, operation: str = "charge") -> None:
    """Record a call that ended so many seconds ago; without an outcome its process died."""
    postgres.rows(
        "INSERT INTO payments.psp_attempts (id, payment_id, operation, reference, outcome, created_at, ended_at)"
        " SELECT gen_random_uuid(), %s, %s, %s, %s, moment, CASE WHEN %s::text IS NOT NULL THEN moment END"
        " FROM (SELECT clock_timestamp() - %s * interval '1 second' AS moment) AS at",
        *(payment.id, operation, str(payment.id), outcome, outcome, ago),
    )


def set_age(payment: Payment, *, ago: float, reconciled: float | None = None) -> None:
    """Set for how many seconds the payment is `processing`, and how long ago the reconciler acted on it."""
    postgres.rows(
        "UPDATE payments.payments SET updated_at = clock_timestamp() - %s * interval '1 second' WHERE id = %s",
        *(ago, payment.id),
    )
    pause = 0 if reconciled is None else max(30, (ago - reconciled) / 10)
    postgres.rows(
        "UPDATE payments.payments_in_progress"
        " SET reconcile_at = clock_timestamp() + %s * interval '1 second' WHERE payment_id = %s",
        *(pause - (ago if reconciled is None else reconciled), payment.id),
    )


def reconcile() -> list[str]:
    makers.enqueue_scheduled(payment_reconciliation.reconcile)
    run("payments.reconcile")
    return work()


# --- the scenarios of the stub --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("simulate", "status", "code", "ledger", "calls"),
    [
        ("approve", "completed", None, [CHARGED], [("charge", CHARGED)]),
        ("slow", "completed", None, [CHARGED], [("charge", CHARGED)]),
        ("late", "completed", None, [CHARGED], [("charge", CHARGED)]),
        ("duplicate", "completed", None, [CHARGED], [("charge", CHARGED), ("notice", CHARGED)]),
        ("decline", "failed", "card_declined", ["declined"], [("charge", "declined")]),
        ("decline:expired_card", "failed", "expired_card", ["declined"], [("charge", "declined")]),
        ("timeout", "completed", None, [CHARGED], [("charge", NO_ANSWER), ("find", CHARGED)]),
        (
            *("error", "completed", None, [CHARGED]),
            [("charge", UNAVAILABLE), *RETRY, ("find", NOT_FOUND), ("charge", CHARGED)],
        ),
        (
            *("outage", "failed", "provider_unavailable", []),
            [("charge", UNAVAILABLE), *RETRY * (MAX_CHARGE_CALLS - 1), ("find", NOT_FOUND)],
        ),
        (
            "blackout",
            "processing",
            None,
            [],
            [("charge", NO_ANSWER), *[("find", NO_ANSWER)] * (MAX_CHARGE_CALLS - 1)],
        ),
    ],
)
def test_every_scenario_ends_as_the_contract_says(simulate, status, code, ledger, calls):
    payment = makers.payment(simulate=simulate)
    work()
    ended = makers.reload(payment)
    assert (ended.status, ended.failure_code) == (status, code)
    assert charges(payment) == ledger
    assert attempts(payment) == calls
    assert history(payment)[2:] == {"completed": ["complete"], "failed": ["fail"], "processing": []}[status]
    assert makers.review(payment) == ("the PSP does not answer" if simulate == "blackout" else None)


def test_an_unavailable_psp_is_called_at_growing_intervals():
    makers.payment(simulate="outage")
    run("payments.begin")
    waits = []
    for _ in range(MAX_CHARGE_CALLS):
        run("payments.charge", "payments.resolve")
        [row] = postgres.rows(
            "SELECT extract(epoch FROM due_at - created_at) AS wait FROM journal.jobs"
            " WHERE name = 'payments.inquire'"
        )
        waits.append(float(row["wait"]))
        # Once the PSP has said that it has no order, the charge does not wait again.
        run("payments.inquire", "payments.resolve")
    for number, wait in enumerate(waits):
        assert 2**number * 0.25 <= wait <= 2**number * 0.75 + 0.01


def test_a_request_can_be_paid_again_after_an_outage():
    request = makers.open_request()
    pay(request, simulate="outage")
    work()
    assert makers.reload(request).status == "initiated"
    again = pay(request)
    work()
    assert (makers.reload(again).status, makers.reload(request).status) == ("completed", "completed")


def test_a_request_cannot_be_paid_while_its_payment_has_an_unknown_outcome():
    request = makers.open_request()
    pay(request, simulate="blackout")
    work()
    assert makers.reload(request).status == "processing"
    with pytest.raises(payable.RequestNotPayable):
        pay(request)


def test_any_other_exception_of_a_provider_counts_as_no_answer(monkeypatch):
    def broken(*_args: object) -> None:
        raise ConnectionResetError

    for name in ("charge", "find"):
        monkeypatch.setattr(provider.chosen(), name, broken)
    payment = makers.payment()
    for _ in range(MAX_CHARGE_CALLS):
        run("payments.begin", "payments.charge", "payments.inquire", "payments.resolve")
    assert makers.reload(payment).status == "processing"
    assert makers.review(payment) == "the PSP does not answer"
    assert attempts(payment) == [("charge", NO_ANSWER), *[("find", NO_ANSWER)] * (MAX_CHARGE_CALLS - 1)]


# --- reconciliation -------------------------------------------------------------------------------------


def test_a_blackout_ends_when_the_ledger_has_the_order():
    payment = makers.payment(simulate="blackout")
    work()
    assert makers.review(payment)
    set_age(payment, ago=60, reconciled=31)
    assert reconcile() == ["payments.inquire", "payments.resolve"]
    assert makers.review(payment)

    insert_charge(payment)
    set_age(payment, ago=60, reconciled=31)
    assert reconcile() == ["payments.inquire", "payments.settle"]

    settled = makers.reload(payment)
    assert (settled.status, makers.review(settled)) == ("completed", None)
    assert charges(payment) == [CHARGED]
    assert history(payment) == ["create", "begin", "complete"]


@pytest.mark.parametrize(
    ("simulate", "status", "code"),
    [
        ("approve", "completed", None),
        ("decline:lost_card", "failed", "lost_card"),
        ("timeout", "completed", None),
        ("outage", "failed", "provider_unavailable"),
    ],
)
def test_the_reconciler_inquires_about_a_payment_whose_jobs_are_lost(simulate, status, code):
    payment = payment_without_jobs(simulate=simulate)
    set_age(payment, ago=4)
    assert reconcile()[:2] == ["payments.inquire", "payments.resolve"]
    assert (makers.reload(payment).status, makers.reload(payment).failure_code) == (status, code)


@pytest.mark.parametrize(
    ("ago", "reconciled", "inquiries"),
    [
        # Just begun: its own jobs are waiting. (Begun in the future: a slow machine must not make it old.)
        (-60, None, 0),
        (3.1, None, 1),
        (3600, None, 1),
        # Reconciled a moment ago.
        (3600, -60, 0),
        (200, 30.1, 1),
        # The pauses grow: a tenth of the age.
        (3600, 200, 0),
        (3600, 361, 1),
    ],
)
def test_the_reconciler_inquires_at_growing_intervals(ago, reconciled, inquiries):
    payment = payment_without_jobs(simulate="blackout")
    set_age(payment, ago=ago, reconciled=reconciled)
    assert reconcile()[:1] == ["payments.inquire"] * inquiries
    assert len(attempts(payment)) > 0 if inquiries else attempts(payment) == []


def test_the_reconciler_does_not_inquire_twice_in_a_row():
    payment = payment_without_jobs(simulate="blackout")
    set_age(payment, ago=60)
    ran = [enqueue_and_run(payment_reconciliation.reconcile.job())[1:2] for _ in range(2)]
    assert ran == [["payments.inquire"], []]


@pytest.mark.parametrize("make", [makers.payment, makers.request], ids=["payment", "request"])
@pytest.mark.parametrize(
    ("ago", "job", "begun"),
    [
        (61, "gone", 1),
        (-60, "gone", 0),
        # A waiting job runs; a dead one is left to an operator for ten minutes.
        (61, "waiting", 1),
        (3600, "dead for 9 minutes", 0),
        (3600, "dead for 11 minutes", 1),
    ],
)
def test_a_pending_payment_whose_begin_job_is_lost_is_begun_after_a_minute(make, ago, job, begun):
    payment = make()
    postgres.rows(
        "UPDATE payments.payments SET created_at = clock_timestamp() - %s * interval '1 second'", ago
    )
    if job == "gone":
        postgres.rows("DELETE FROM journal.jobs WHERE name = 'payments.begin'")
    elif job != "waiting":
        minutes = int(job.split()[2])
        postgres.rows(
            "UPDATE journal.jobs SET dead_at = clock_timestamp() - %s * interval '1 minute'"
            " WHERE name = 'payments.begin'",
            minutes,
        )
    assert reconcile().count("payments.begin") == begun
    assert (makers.reload(payment).status != "pending") is bool(begun)


def test_the_reconciler_inquires_about_payments_that_are_processing_only():
    engaged, paid = makers.open_request(), makers.payment()
    pay(engaged, simulate="blackout")
    work()
    waiting = makers.payment()
    postgres.rows("DELETE FROM journal.jobs")
    for payment in (engaged, paid, waiting):
        set_age(payment, ago=3600)
    assert [makers.reload(payment).status for payment in (engaged, paid, waiting)] == [
        "processing",
        "completed",
        "pending",
    ]
    assert reconcile() == []


def test_a_payment_that_is_processing_for_weeks_costs_few_inquiries_and_few_rows():
    payment = payment_without_jobs(simulate="blackout")
    for reconciled, inquiries in ((90, []), (110, ["payments.inquire", "payments.resolve"])):
        set_age(payment, ago=1000, reconciled=reconciled)
        with transaction():
            enqueue(payment_reconciliation.reconcile.job())
        assert work()[1:3] == inquiries
    for _ in range(30):
        record_call(payment, NO_ANSWER, ago=1, operation="find")
    record_call(payment, NO_ANSWER, ago=900)
    calls = psp_attempts.for_payment(payment.id)
    assert [call.operation for call in calls].count("find") == 20
    assert calls[0].operation == "charge"


def test_a_decision_about_another_amount_opens_a_review_and_settles_nothing():
    payment = payment_without_jobs()
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, payment.amount + 1, "USD"))
    assert work() == ["payments.settle"]
    assert (makers.reload(payment).status, makers.review(payment)) == (
        "processing",
        "the PSP says: charged 13.50 USD",
    )
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, payment.amount, "USD"))
    work()
    # The review stays open: a person decides which of the two decisions holds.
    assert (makers.reload(payment).status, makers.review(payment)) == (
        "completed",
        "the PSP says: charged 13.50 USD",
    )


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("100000000.00", "USD"),
        ("12.505", "USD"),
        ("12.500000000000000000001", "USD"),
        ("12.50", "USDT"),
        ("12.50", "USD\0"),
        ("-12.50", "USD"),
        ("1E+30", "USD"),
    ],
)
def test_an_amount_that_fits_no_payment_is_stored_as_the_psp_sent_it(amount, currency):
    payment = payment_without_jobs()
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, Decimal(amount), currency))
    assert work() == ["payments.settle"]
    [notice] = psp_attempts.for_payment(payment.id)
    assert (notice.amount, notice.currency) == (
        Decimal(amount),
        currency.replace("\0", "\N{REPLACEMENT CHARACTER}"),
    )
    assert makers.reload(payment).status == "processing"
    assert str(makers.review(payment)).startswith("the PSP says: charged ")


def test_an_answer_whose_amount_is_not_a_number_counts_as_no_answer(monkeypatch):
    monkeypatch.setattr(
        provider.chosen(), "charge", lambda _order: Answer(Outcome.CHARGED, None, Decimal("NaN"), "USD")
    )
    payment = makers.payment()
    run("payments.begin", "payments.charge")
    assert attempts(payment) == [("charge", NO_ANSWER)]


def test_two_runs_of_the_reconciler_inquire_once_about_each_payment():
    stuck = [payment_without_jobs() for _ in range(5)]
    for payment in stuck:
        set_age(payment, ago=60)
    done = enqueue_and_run(payment_reconciliation.reconcile.job(), payment_reconciliation.reconcile.job())
    assert done.count("payments.inquire") == 5
    assert [makers.reload(payment).status for payment in stuck] == ["completed"] * 5
    assert [charges(payment) for payment in stuck] == [[CHARGED]] * 5


def test_the_reconciler_leaves_a_payment_alone_whose_charge_is_waiting():
    payment = makers.payment()
    run("payments.begin")
    set_age(payment, ago=60)
    makers.enqueue_scheduled(payment_reconciliation.reconcile)
    run("payments.reconcile")
    assert work() == ["payments.charge"]
    assert attempts(payment) == [("charge", CHARGED)]


def test_one_inquiry_for_each_payment_waits_for_a_psp_worker_that_is_down():
    payment = payment_without_jobs()
    for _ in range(3):
        set_age(payment, ago=200, reconciled=31)
        makers.enqueue_scheduled(payment_reconciliation.reconcile)
        run("payments.reconcile")
    assert work().count("payments.inquire") == 1


def test_an_inquiry_during_a_late_charge_does_not_change_the_outcome():
    payment = makers.payment(simulate="late")

    def meanwhile(seconds: float) -> None:
        if seconds:
            set_age(payment, ago=60)
            with transaction():
                enqueue(payment_reconciliation.reconcile.job())
            run("payments.reconcile", "payments.inquire", "payments.resolve")

    provider.choose(Stub(payment_jobs.receive_notice, sleep=meanwhile))
    work()
    assert attempts(payment) == [("charge", CHARGED), ("find", NOT_FOUND)]
    assert makers.reload(payment).status == "completed"
    assert (charges(payment), history(payment)) == ([CHARGED], ["create", "begin", "complete"])


# --- failure of a payment that the PSP does not have ----------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "ago", "status"),
    [
        # The process died during the call, or the call was not answered: it may still arrive.
        (None, MAY_ARRIVE_S - 5, "processing"),
        (NO_ANSWER, MAY_ARRIVE_S - 5, "processing"),
        (None, MAY_ARRIVE_S + 1, "failed"),
        (NO_ANSWER, MAY_ARRIVE_S + 1, "failed"),
        # The PSP refused the call.
        (UNAVAILABLE, 1, "failed"),
    ],
)
def test_a_payment_does_not_fail_while_a_call_may_still_arrive(outcome, ago, status):
    payment = payment_without_jobs(simulate="outage")
    for _ in range(MAX_CHARGE_CALLS):
        record_call(payment, outcome, ago=ago)

    enqueue_and_run(makers.resolve_job(payment), payment_jobs.inquire_job(payment.id))

    assert makers.reload(payment).status == status
    assert makers.reload(payment).failure_code == ("provider_unavailable" if status == "failed" else None)
    assert makers.review(payment) is None


def test_the_reconciler_fails_a_payment_once_no_call_can_arrive():
    payment = payment_without_jobs(simulate="outage")
    for _ in range(MAX_CHARGE_CALLS):
        record_call(payment, None, ago=MAY_ARRIVE_S - 5)
    enqueue_and_run(payment_jobs.inquire_job(payment.id))
    assert makers.reload(payment).status == "processing"

    postgres.rows("UPDATE payments.psp_attempts SET created_at = created_at - interval '6 seconds'")
    set_age(payment, ago=60)
    reconcile()
    assert makers.reload(payment).status == "failed"


def test_a_charge_of_a_call_whose_process_died_is_found():
    payment = payment_without_jobs()
    record_call(payment, None, ago=1)
    insert_charge(payment)
    assert enqueue_and_run(makers.resolve_job(payment)) == [
        "payments.resolve",
        "payments.inquire",
        "payments.settle",
    ]
    assert attempts(payment) == [("charge", None), ("find", CHARGED)]
    assert charges(payment) == [CHARGED]
    assert makers.reload(payment).status == "completed"


# --- late and repeated answers --------------------------------------------------------------------------


def declined_payment() -> Payment:
    payment = makers.payment(simulate="decline")
    work()
    return payment


def cancelled_payment() -> Payment:
    payment = makers.payment()
    with transaction():
        enqueue(payment_endings.cancel.job(payment.id, None, RequestContext()))
    run("payments.cancel")
    work()
    return payment


@pytest.mark.parametrize(
    ("ended", "status"), [(declined_payment, "failed"), (cancelled_payment, "cancelled")]
)
def test_a_late_charge_opens_a_review_and_changes_nothing(ended, status):
    payment = makers.reload(ended())
    assert (payment.status, makers.review(payment)) == (status, None)

    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    assert work() == ["payments.settle"]

    after = makers.reload(payment)
    assert (after.status, after.version) == (status, payment.version)
    assert makers.review(after) == f"the PSP charged it, but it is {status}"


@pytest.mark.parametrize("answer", [Answer(Outcome.CHARGED), Answer(Outcome.DECLINED, "lost_card")])
def test_an_answer_that_arrives_three_times_settles_once(answer):
    payment = payment_without_jobs()
    for _ in range(3):
        payment_jobs.receive_notice(payment.id, answer)
    assert work() == ["payments.settle"] * 3
    settled = makers.reload(payment)
    assert history(payment) == ["create", "begin", "complete" if settled.status == "completed" else "fail"]
    assert (settled.version, makers.review(settled)) == (3, None)
    emitted = [event.type for event in event_log.after(0, 1000) if event.data.get("id") == str(payment.id)]
    assert len(emitted) == 4


def test_a_notice_ends_an_unknown_outcome():
    payment = payment_without_jobs()
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    assert enqueue_and_run(makers.resolve_job(payment)) == ["payments.settle", "payments.resolve"]
    assert makers.reload(payment).status == "completed"
    assert attempts(payment) == [("notice", CHARGED)]


def test_an_inquiry_whose_process_died_is_repeated_under_its_id():
    payment, inquiry = payment_without_jobs(), uuid4()
    makers.begin_call(payment, psp_attempts.PspOperation.FIND, inquiry)
    assert enqueue_and_run(payment_jobs.inquire_job(payment.id, inquiry))[0] == "payments.inquire"
    assert psp_attempts.find_result(inquiry) == NOT_FOUND


def test_an_inquiry_about_an_ended_payment_calls_nobody():
    payment = makers.payment()
    work()
    assert enqueue_and_run(payment_jobs.inquire_job(payment.id)) == ["payments.inquire"]
    assert attempts(payment) == [("charge", CHARGED)]


# --- answers after the lease ----------------------------------------------------------------------------


class HangingProvider:
    """A Provider whose first call is answered after its lease has ended."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile, self._calls = meanwhile, 0

    def charge(self, order: provider.Order) -> Answer:
        self._calls += 1
        if self._calls > 1:
            raise provider.Unavailable
        self._meanwhile()
        return Answer(Outcome.CHARGED, None, order.amount, order.currency)

    def find(self, _key: str) -> Answer | None:
        return None

    def statement(self, _day: date, _after: str | None) -> provider.Statement:
        return provider.Statement([], None)


def test_a_charge_that_is_answered_after_the_payment_failed_opens_a_review():
    payment = makers.payment()

    def another_worker_takes_over() -> None:
        # The relay has sent the job again, and the call is too old to arrive.
        postgres.rows("UPDATE journal.jobs SET leased_until = NULL, attempts = attempts + 1")
        postgres.rows(
            "UPDATE payments.psp_attempts SET created_at = created_at - %s * interval '1 second'",
            MAY_ARRIVE_S + 1,
        )
        work()
        assert makers.reload(payment).failure_code == "provider_unavailable"

    provider.choose(HangingProvider(another_worker_takes_over))
    work()

    assert attempts(payment)[0] == ("charge", CHARGED)
    assert makers.reload(payment).status == "failed"
    assert makers.review(payment) == "the PSP charged it, but it is failed"


def test_a_charge_that_is_answered_after_its_lease_completes_the_payment():
    payment = makers.payment()

    def another_worker_takes_over() -> None:
        postgres.rows("UPDATE journal.jobs SET leased_until = NULL, attempts = attempts + 1")
        run("payments.charge", "payments.resolve")

    provider.choose(HangingProvider(another_worker_takes_over))
    run("payments.begin", "payments.charge")
    assert (makers.reload(payment).status, makers.review(payment)) == ("completed", None)


def lose_settle_job(payment: Payment) -> None:
    """Run the payment to a late decision of the PSP whose settle job is lost."""
    run("payments.begin", "payments.charge")
    assert attempts(payment)[0][1] in (CHARGED, "declined")
    postgres.rows("DELETE FROM journal.jobs WHERE name = 'payments.settle'")


def test_a_decision_that_cannot_be_settled_with_its_call_is_settled_by_a_job(monkeypatch):
    made = [makers.payment() for _ in range(2)]
    run("payments.begin")
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(transitions, "apply_all", lambda _changes: 1 / 0)
        payment_jobs.charge.handle(uuid4())
    # Nothing else would tell: each call alone is recorded without being settled.
    assert "ZeroDivisionError: division by zero" in {line.get("error") for line in logs}
    assert [attempts(payment) for payment in made] == [[("charge", CHARGED)]] * 2
    assert work() == ["payments.settle"] * 2
    assert [makers.reload(payment).status for payment in made] == ["completed"] * 2


@pytest.mark.parametrize(
    ("simulate", "status", "ends", "review"),
    [
        ("approve", "processing", "completed", None),
        ("decline", "processing", "failed", None),
        ("approve", "failed", "failed", "the PSP charged it, but it is failed"),
        ("decline", "completed", "completed", "the PSP declined it, but it is completed"),
    ],
)
@pytest.mark.usefixtures("late")
def test_the_reconciler_settles_a_decision_whose_job_is_lost(simulate, status, ends, review):
    payment = makers.payment(simulate=simulate)
    lose_settle_job(payment)
    if status != "processing":
        makers.set_status(payment, status)
    postgres.rows("UPDATE payments.psp_attempts SET ended_at = clock_timestamp() - interval '4 seconds'")

    assert reconcile() == ["payments.settle"]
    assert (makers.reload(payment).status, makers.review(payment)) == (ends, review)
    # A settled decision is not settled again.
    assert reconcile() == []
    assert [operation for operation, _ in attempts(payment)] == ["charge"]


def test_every_order_under_one_key_is_the_same_order_after_an_edit():
    orders = []
    stub = makers.stub()

    class RecordingStub(Stub):
        def charge(self, order: provider.Order) -> Answer:
            orders.append(order)
            return stub.charge(order)

    provider.choose(RecordingStub(payment_jobs.receive_notice, sleep=lambda _seconds: None))
    payment = makers.payment(simulate="blackout", order="A-1")
    run("payments.begin")
    for note in ("before the first call", "asked the PSP by telephone"):
        payments.edit(makers.reload(payment), metadata={"note": note})
        work()
    # The PSP answers again, and has no order.
    postgres.rows("DELETE FROM psp.orders")
    set_age(payment, ago=60, reconciled=31)
    reconcile()

    assert [order.metadata for order in orders] == [{"simulate": "blackout", "order": "A-1"}] * len(orders)
    assert len(orders) > 1
    assert makers.reload(payment).metadata == {"note": "asked the PSP by telephone"}


def test_metadata_edited_before_begin_is_ordered():
    payment = makers.payment(simulate="approve")
    payments.edit(payment, metadata={"simulate": "decline"})
    work()
    assert makers.reload(payment).status == "failed"


@pytest.mark.usefixtures("late")
def test_the_reconciler_does_not_inquire_about_payments_whose_settlement_waits():
    waiting = [makers.payment() for _ in range(10)]
    run("payments.begin", "payments.charge")
    for payment in waiting:
        set_age(payment, ago=60)
    postgres.rows("UPDATE payments.psp_attempts SET ended_at = clock_timestamp() - interval '60 seconds'")
    assert reconcile() == ["payments.settle"] * 10
    assert [attempts(payment) for payment in waiting] == [[("charge", CHARGED)]] * 10


def test_the_reconciler_does_not_inquire_about_a_payment_whose_resolution_waits():
    payment = makers.payment(simulate="timeout")
    run("payments.begin", "payments.charge")
    set_age(payment, ago=60)
    makers.enqueue_scheduled(payment_reconciliation.reconcile)
    run("payments.reconcile")
    assert JobRow.select().where(JobRow.name == "payments.inquire").count() == 0
    assert work() == ["payments.resolve", "payments.inquire", "payments.settle"]


# --- by hand --------------------------------------------------------------------------------------------


def admin_context() -> RequestContext:
    return RequestContext(f"request-{uuid4().hex}", makers.user(Role.ADMIN).id, "203.0.113.7", "curl/8")


@pytest.mark.parametrize(
    "calls",
    [
        # No inquiry; a call may still arrive; an unanswered inquiry; an inquiry before the last charge call.
        [],
        [("charge", None, 1), ("find", NOT_FOUND, 0)],
        [("charge", NO_ANSWER, 1), ("find", NOT_FOUND, 0)],
        [("charge", NO_ANSWER, 60), ("find", NO_ANSWER, 1)],
        [("charge", UNAVAILABLE, 3), ("find", NOT_FOUND, 2), ("charge", UNAVAILABLE, 1)],
        # The call was decided during the inquiry, and the decision is not settled yet.
        [("charge", CHARGED, 8), ("find", NOT_FOUND, 5)],
        # The inquiry was made while the call could still arrive.
        [("charge", NO_ANSWER, MAY_ARRIVE_S + 10), ("find", NOT_FOUND, MAY_ARRIVE_S + 9)],
    ],
)
def test_a_payment_that_the_psp_may_have_cannot_be_failed_by_hand(calls):
    payment, by = payment_without_jobs(), admin_context()
    for operation, outcome, ago in calls:
        record_call(payment, outcome, ago=ago, operation=operation)

    enqueue_and_run(payment_endings.fail.job(payment.id, "it hangs", by))

    assert makers.reload(payment).status == "processing"
    [row] = refusals(payment)
    assert row.details == {"transition": "fail", "status": "processing", "reason": "it hangs"}
    assert context_of(row) == by


def test_a_payment_that_the_psp_cannot_have_is_failed_by_hand():
    payment, by = payment_without_jobs(), admin_context()
    record_call(payment, NO_ANSWER, ago=MAY_ARRIVE_S + 2)
    record_call(payment, NOT_FOUND, ago=1, operation="find")

    enqueue_and_run(payment_endings.fail.job(payment.id, "it hangs", by))

    failed = makers.reload(payment)
    assert (failed.status, failed.failure_code, failed.failure_message) == (
        "failed",
        "failed_by_admin",
        "it hangs",
    )
    assert refusals(payment) == []
    [*_, row] = makers.audit_entries(payment.id)
    assert (row.action, context_of(row)) == ("payments.payment.fail", by)
    [*_, transition] = payments.history(payment.id)
    assert (transition.actor_id, transition.reason) == (by.user_id, "it hangs")


def test_a_payment_failed_by_hand_needs_no_review_of_the_silence_that_ended():
    payment = payment_without_jobs()
    record_call(payment, NO_ANSWER, ago=MAY_ARRIVE_S + 9)
    record_call(payment, NO_ANSWER, ago=5, operation="find")
    with transaction():
        enqueue(payment_jobs.resolve.job(payment_jobs.PaymentEntry(payment_id=payment.id)))
    run("payments.resolve")
    assert makers.review(payment) == "the PSP does not answer"

    record_call(payment, NOT_FOUND, ago=1, operation="find")
    with transaction():
        enqueue(payment_endings.fail.job(payment.id, "it hangs", admin_context()))
    run("payments.fail")

    assert (makers.reload(payment).status, makers.review(payment)) == ("failed", None)


def test_a_payment_that_begins_before_its_cancellation_is_not_cancelled():
    payment, by = makers.payment(), admin_context()
    with transaction():
        enqueue(payment_endings.cancel.job(payment.id, "ordered twice", by))
    run("payments.begin", "payments.cancel")

    [row] = refusals(payment)
    assert row.details == {"transition": "cancel", "status": "processing", "reason": "ordered twice"}
    assert context_of(row) == by
    assert makers.reload(payment).status == "completed"
    assert charges(payment) == [CHARGED]


def test_a_cancelled_payment_is_never_begun():
    payment, by = makers.payment(), admin_context()
    with transaction():
        enqueue(payment_endings.cancel.job(payment.id, "ordered twice", by))
    run("payments.cancel")
    assert work() == ["payments.begin"]

    assert makers.reload(payment).status == "cancelled"
    assert (charges(payment), attempts(payment), refusals(payment)) == ([], [], [])
    [*_, row] = makers.audit_entries(payment.id)
    assert (row.action, context_of(row)) == ("payments.payment.cancel", by)


def test_a_payment_failed_by_hand_is_not_charged():
    payment = payment_without_jobs()
    record_call(payment, UNAVAILABLE, ago=2)
    record_call(payment, NOT_FOUND, ago=1, operation="find")
    enqueue_and_run(payment_endings.fail.job(payment.id, None, admin_context()))
    before = attempts(payment)

    enqueue_and_run(payment_jobs.charge.job(payment_jobs.Charge(payment_id=payment.id)))

    assert attempts(payment) == before
    assert (charges(payment), makers.reload(payment).status) == ([], "failed")


def context_of(row: audit_log.AuditLog) -> RequestContext:
    return RequestContext(row.request_id, row.user_id, row.ip_address, row.user_agent)
