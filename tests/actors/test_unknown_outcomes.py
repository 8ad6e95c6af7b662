"""What becomes of a payment when the PSP is away, silent, slow, late, or says it twice."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from actors import jobs, payable, payment_endings, payment_jobs, payment_reconciliation
from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.psp.provider import Answer, Outcome
from actors.psp.resolution import MAX_CHARGE_CALLS, MAY_ARRIVE_FOR
from actors.psp.stub import Stub
from db import audit_log, event_log, job_journal, payments, postgres, psp_attempts, psp_ledger
from db.core.request_context import RequestContext
from db.payments import Payment
from db.states import PaymentStatus
from db.users import Role
from tests import makers
from tests.makers import pay, work

pytestmark = pytest.mark.usefixtures("database")

CHARGED, NO_ANSWER, UNAVAILABLE, NOT_FOUND = "charged", "no_answer", "unavailable", "not_found"
MAY_ARRIVE_S = MAY_ARRIVE_FOR.total_seconds()
RETRY = [("find", NOT_FOUND), ("charge", UNAVAILABLE)]


def attempts(payment: Payment) -> list[tuple[str, str | None]]:
    """What the PSP was asked, and what came of it."""
    return [(it.operation, it.outcome) for it in psp_attempts.for_payment(payment.id)]


def charges(payment: Payment) -> list[str]:
    """What the PSP has in its ledger."""
    found = psp_ledger.Charge.select().where(psp_ledger.Charge.payment_id == payment.id)
    return [charge.outcome for charge in found]


def history(payment: Payment) -> list[str]:
    return [row.transaction_type for row in payments.history(payment.id)]


def refusals(payment: Payment) -> list[audit_log.AuditLog]:
    work()
    return [row for row in audit_log.of_resource(payment.id) if row.action == "payments.transition.refused"]


def enqueue_and_run(*tasks: job_journal.Job) -> list[str]:
    """Promises these, and does all there is."""
    with transaction():
        for task in tasks:
            enqueue(task)
    return work()


def run(*names: str) -> None:
    """Does what is promised of these verbs, and nothing else."""
    for name in names:
        for row in list(job_journal.JobRow.select().where(job_journal.JobRow.name == name)):
            jobs.registry[name].perform(row.id)


def payment_without_jobs(**metadata: Any) -> Payment:
    """A payment that is with the PSP as far as we know, and of which no promise is left."""
    payment = makers.payment(**metadata)
    run("payments.begin")
    postgres.rows("DELETE FROM journal.jobs WHERE name = 'payments.charge'")
    assert makers.reload(payment).status == "processing"
    return payment


def insert_charge(payment: Payment, outcome: str = CHARGED) -> None:
    """Somebody at the PSP books the order after all."""
    postgres.rows(
        "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome)"
        " VALUES (%s, %s, %s, %s, %s)",
        *(str(payment.id), payment.id, payment.amount, payment.currency, outcome),
    )


def record_call(payment: Payment, outcome: str | None, *, ago: float, operation: str = "charge") -> None:
    """The PSP was asked so many seconds ago; without an outcome, the process died over it."""
    postgres.rows(
        "INSERT INTO payments.psp_attempts (id, payment_id, operation, reference, outcome, created_at, ended_at)"
        " SELECT gen_random_uuid(), %s, %s, %s, %s, moment, CASE WHEN %s::text IS NOT NULL THEN moment END"
        " FROM (SELECT clock_timestamp() - %s * interval '1 second' AS moment) AS at",
        *(payment.id, operation, str(payment.id), outcome, outcome, ago),
    )


def set_age(payment: Payment, *, ago: float, taken_up: float | None = None) -> None:
    """It is with the PSP for so long, and the reconciler took it up so long ago, in seconds."""
    postgres.rows(
        "UPDATE payments.payments SET updated_at = clock_timestamp() - %s * interval '1 second',"
        " reconciled_at = clock_timestamp() - %s * interval '1 second' WHERE id = %s",
        *(ago, taken_up, payment.id),
    )


def reconcile() -> list[str]:
    makers.enqueue_scheduled(payment_reconciliation.reconcile)
    run("payments.reconcile")
    return work()


# --- what the stub plays, to its end --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("simulate", "status", "code", "booked", "asked"),
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
def test_every_payment_ends_as_the_contract_says(simulate, status, code, booked, asked):
    payment = makers.payment(simulate=simulate)
    work()
    ended = makers.reload(payment)
    assert (ended.status, ended.failure_code) == (status, code)
    assert charges(payment) == booked
    assert attempts(payment) == asked
    assert history(payment)[2:] == {"completed": ["complete"], "failed": ["fail"], "processing": []}[status]
    assert makers.review(payment) == ("the PSP does not answer" if simulate == "blackout" else None)


def test_while_the_psp_is_away_it_is_asked_ever_more_seldom():
    makers.payment(simulate="outage")
    run("payments.begin")
    waits = []
    for _ in range(MAX_CHARGE_CALLS):
        run("payments.charge", "payments.resolve")
        [row] = postgres.rows(
            "SELECT extract(epoch FROM due_at - created_at) AS wait FROM journal.jobs WHERE name = 'payments.charge'"
        )
        waits.append(float(row["wait"]))
    for place, wait in enumerate(waits):
        assert 2**place * 0.25 <= wait <= 2**place * 0.75 + 0.01


def test_a_request_whose_payment_the_psp_never_got_can_be_paid_again():
    request = makers.open_request()
    pay(request, simulate="outage")
    work()
    assert makers.reload(request).status == "initiated"
    again = pay(request)
    work()
    assert (makers.reload(again).status, makers.reload(request).status) == ("completed", "completed")


def test_a_request_whose_payment_is_in_doubt_is_kept_from_others():
    request = makers.open_request()
    pay(request, simulate="blackout")
    work()
    assert makers.reload(request).status == "processing"
    with pytest.raises(payable.RequestNotPayable):
        pay(request)


def test_a_provider_that_raises_something_else_is_one_that_did_not_answer(monkeypatch):
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


# --- reconciling ----------------------------------------------------------------------------------------


def test_the_blackout_ends_when_somebody_books_the_order():
    payment = makers.payment(simulate="blackout")
    work()
    assert makers.review(payment)
    set_age(payment, ago=60, taken_up=31)
    assert reconcile() == ["payments.inquire", "payments.resolve"]
    assert makers.review(payment)

    insert_charge(payment)
    set_age(payment, ago=60, taken_up=31)
    assert reconcile() == ["payments.inquire", "payments.settle"]

    settled = makers.reload(payment)
    assert (settled.status, makers.review(settled), settled.reconciled_at) == ("completed", None, None)
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
def test_a_payment_whose_promises_are_gone_is_taken_up(simulate, status, code):
    payment = payment_without_jobs(simulate=simulate)
    set_age(payment, ago=4)
    assert reconcile()[:2] == ["payments.inquire", "payments.resolve"]
    assert (makers.reload(payment).status, makers.reload(payment).failure_code) == (status, code)


@pytest.mark.parametrize(
    ("ago", "taken_up", "looks"),
    [
        # Just begun: its own promises are at it. (In the future: a slow machine must not make it old.)
        (-60, None, 0),
        (3.1, None, 1),
        (3600, None, 1),
        # Taken up a moment ago: the PSP is not asked all the time.
        (3600, -60, 0),
        (200, 30.1, 1),
        # And ever more seldom: a tenth of its age.
        (3600, 200, 0),
        (3600, 361, 1),
    ],
)
def test_the_reconciler_is_in_no_hurry(ago, taken_up, looks):
    payment = payment_without_jobs(simulate="blackout")
    set_age(payment, ago=ago, taken_up=taken_up)
    assert reconcile()[:1] == ["payments.inquire"] * looks
    assert len(attempts(payment)) > 0 if looks else attempts(payment) == []


def test_what_the_reconciler_has_taken_up_it_leaves_alone_for_a_while():
    payment = payment_without_jobs(simulate="blackout")
    set_age(payment, ago=60)
    looked = [enqueue_and_run(payment_reconciliation.reconcile.job())[1:2] for _ in range(2)]
    assert looked == [["payments.inquire"], []]


@pytest.mark.parametrize("make", [makers.payment, makers.request], ids=["payment", "request"])
@pytest.mark.parametrize(
    ("ago", "job", "begins"),
    [
        (61, "gone", 1),
        (-60, "gone", 0),
        # Waits for its turn, or for an operator; but not for ever.
        (61, "waiting", 1),
        (3600, "dead for 9 minutes", 0),
        (3600, "dead for 11 minutes", 1),
    ],
)
def test_what_was_created_and_whose_beginning_is_lost_is_begun_after_a_minute(make, ago, job, begins):
    made = make()
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
    assert reconcile().count("payments.begin") == begins
    assert (makers.reload(made).status != "pending") is bool(begins)


def test_the_reconciler_takes_up_nothing_but_payments_that_are_with_the_psp():
    engaged, paid = makers.open_request(), makers.payment()
    pay(engaged, simulate="blackout")
    work()
    waiting = makers.payment()
    postgres.rows("DELETE FROM journal.jobs")
    for it in (engaged, paid, waiting):
        set_age(it, ago=3600)
    assert [makers.reload(it).status for it in (engaged, paid, waiting)] == [
        "processing",
        "completed",
        "pending",
    ]
    assert reconcile() == []


def test_whoever_is_in_doubt_for_weeks_is_asked_ever_more_seldom_and_weighs_no_more():
    payment = payment_without_jobs(simulate="blackout")
    postgres.rows("UPDATE payments.payments SET updated_at = now() - interval '1000 seconds'")
    for taken_up, looks in ((90, []), (110, ["payments.inquire", "payments.resolve"])):
        postgres.rows(
            "UPDATE payments.payments SET reconciled_at = now() - %s * interval '1 second'", taken_up
        )
        with transaction():
            enqueue(payment_reconciliation.reconcile.job())
        assert work()[1:3] == looks
    for _ in range(30):
        record_call(payment, NO_ANSWER, ago=1, operation="find")
    record_call(payment, NO_ANSWER, ago=900)
    known = psp_attempts.for_payment(payment.id)
    assert [it.operation for it in known].count("find") == 20
    assert known[0].operation == "charge"


def test_an_answer_about_other_money_settles_nothing():
    payment = payment_without_jobs()
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, payment.amount + 1, "USD"))
    assert work() == ["payments.settle"]
    assert (makers.reload(payment).status, makers.review(payment)) == (
        "processing",
        "the PSP says: charged 13.50 USD",
    )
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, payment.amount, "USD"))
    work()
    # Which of the two it was is not for us to say.
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
def test_what_the_psp_says_is_kept_as_it_said_it_also_where_it_fits_no_payment(amount, currency):
    payment = payment_without_jobs()
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED, None, Decimal(amount), currency))
    assert work() == ["payments.settle"]
    [said] = psp_attempts.for_payment(payment.id)
    assert (said.amount, said.currency) == (
        Decimal(amount),
        currency.replace("\0", "\N{REPLACEMENT CHARACTER}"),
    )
    assert makers.reload(payment).status == "processing"
    assert str(makers.review(payment)).startswith("the PSP says: charged ")


def test_an_amount_that_is_no_number_is_no_answer(monkeypatch):
    monkeypatch.setattr(
        provider.chosen(), "charge", lambda _order: Answer(Outcome.CHARGED, None, Decimal("NaN"), "USD")
    )
    payment = makers.payment()
    run("payments.begin", "payments.charge")
    assert attempts(payment) == [("charge", NO_ANSWER)]


def test_of_many_stuck_payments_each_is_looked_after_once():
    stuck = [payment_without_jobs() for _ in range(5)]
    for payment in stuck:
        set_age(payment, ago=60)
    done = enqueue_and_run(payment_reconciliation.reconcile.job(), payment_reconciliation.reconcile.job())
    assert done.count("payments.inquire") == 5
    assert [makers.reload(payment).status for payment in stuck] == ["completed"] * 5
    assert [charges(payment) for payment in stuck] == [[CHARGED]] * 5


def test_what_still_waits_for_its_turn_is_not_asked_about():
    payment = makers.payment()
    run("payments.begin")
    set_age(payment, ago=60)
    makers.enqueue_scheduled(payment_reconciliation.reconcile)
    run("payments.reconcile")
    assert work() == ["payments.charge", "payments.settle"]
    assert attempts(payment) == [("charge", CHARGED)]


def test_while_the_psp_worker_is_away_one_look_a_payment_waits_for_it():
    payment = payment_without_jobs()
    for _ in range(3):
        set_age(payment, ago=200, taken_up=31)
        makers.enqueue_scheduled(payment_reconciliation.reconcile)
        run("payments.reconcile")
    assert work().count("payments.inquire") == 1


def test_the_reconciler_asks_while_a_late_order_is_on_its_way():
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


# --- giving up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "ago", "status"),
    [
        # The process died over the call, or nobody answered it: it may still be heard.
        (None, MAY_ARRIVE_S - 5, "processing"),
        (NO_ANSWER, MAY_ARRIVE_S - 5, "processing"),
        (None, MAY_ARRIVE_S + 1, "failed"),
        (NO_ANSWER, MAY_ARRIVE_S + 1, "failed"),
        # It said that it could not.
        (UNAVAILABLE, 1, "failed"),
    ],
)
def test_nothing_is_given_up_while_a_call_may_still_arrive(outcome, ago, status):
    payment = payment_without_jobs(simulate="outage")
    for _ in range(MAX_CHARGE_CALLS):
        record_call(payment, outcome, ago=ago)

    enqueue_and_run(payment_jobs.resolve.job(payment.id), payment_jobs.inquire.job(payment.id))

    assert makers.reload(payment).status == status
    assert makers.reload(payment).failure_code == ("provider_unavailable" if status == "failed" else None)
    assert makers.review(payment) is None


def test_what_waited_for_a_call_that_may_arrive_is_given_up_by_the_reconciler():
    payment = payment_without_jobs(simulate="outage")
    for _ in range(MAX_CHARGE_CALLS):
        record_call(payment, None, ago=MAY_ARRIVE_S - 5)
    enqueue_and_run(payment_jobs.inquire.job(payment.id))
    assert makers.reload(payment).status == "processing"

    postgres.rows("UPDATE payments.psp_attempts SET created_at = created_at - interval '6 seconds'")
    set_age(payment, ago=60)
    reconcile()
    assert makers.reload(payment).status == "failed"


def test_what_the_dead_call_charged_after_all_is_found():
    payment = payment_without_jobs()
    record_call(payment, None, ago=1)
    insert_charge(payment)
    assert enqueue_and_run(payment_jobs.resolve.job(payment.id)) == [
        "payments.resolve",
        "payments.inquire",
        "payments.settle",
    ]
    assert attempts(payment) == [("charge", None), ("find", CHARGED)]
    assert charges(payment) == [CHARGED]
    assert makers.reload(payment).status == "completed"


# --- answers that come late, or twice -------------------------------------------------------------------


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
def test_a_late_charge_is_never_dropped_and_never_guessed_away(ended, status):
    payment = makers.reload(ended())
    assert (payment.status, makers.review(payment)) == (status, None)

    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    assert work() == ["payments.settle"]

    after = makers.reload(payment)
    assert (after.status, after.version) == (status, payment.version)
    assert makers.review(after) == f"the PSP charged it, but it is {status}"


@pytest.mark.parametrize("answer", [Answer(Outcome.CHARGED), Answer(Outcome.DECLINED, "lost_card")])
def test_an_answer_that_comes_three_times_counts_once(answer):
    payment = payment_without_jobs()
    for _ in range(3):
        payment_jobs.receive_notice(payment.id, answer)
    assert work() == ["payments.settle"] * 3
    settled = makers.reload(payment)
    assert history(payment) == ["create", "begin", "complete" if settled.status == "completed" else "fail"]
    assert (settled.version, makers.review(settled)) == (3, None)
    told = [event.type for event in event_log.after(0, 1000) if event.data.get("id") == str(payment.id)]
    assert len(told) == 4


def test_an_answer_after_which_a_doubt_comes_is_the_end_of_it():
    payment = payment_without_jobs()
    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    assert enqueue_and_run(payment_jobs.resolve.job(payment.id)) == ["payments.settle", "payments.resolve"]
    assert makers.reload(payment).status == "completed"
    assert attempts(payment) == [("notice", CHARGED)]


def test_a_look_that_somebody_waits_for_is_taken_up_when_its_process_died():
    payment, inquiry = payment_without_jobs(), uuid4()
    psp_attempts.begin(inquiry, payment.id, psp_attempts.PspOperation.FIND, str(payment.id))
    assert enqueue_and_run(payment_jobs.inquire.job(payment.id, inquiry))[0] == "payments.inquire"
    assert psp_attempts.find_result(inquiry) == NOT_FOUND


def test_who_looks_after_a_payment_that_has_ended_asks_nobody():
    payment = makers.payment()
    work()
    assert enqueue_and_run(payment_jobs.inquire.job(payment.id)) == ["payments.inquire"]
    assert attempts(payment) == [("charge", CHARGED)]


# --- facts ----------------------------------------------------------------------------------------------


class HangingProvider:
    """A Provider whose first call hangs for longer than its lease, with its process; then it is answered."""

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


def test_a_charge_that_is_heard_of_after_its_lease_when_the_payment_has_failed_gets_a_review():
    payment = makers.payment()

    def another_worker_goes_on() -> None:
        # The relay has sent it again, and the call cannot be heard any more by its age.
        postgres.rows("UPDATE journal.jobs SET leased_until = NULL, attempts = attempts + 1")
        postgres.rows(
            "UPDATE payments.psp_attempts SET created_at = created_at - %s * interval '1 second'",
            MAY_ARRIVE_S + 1,
        )
        work()
        assert makers.reload(payment).failure_code == "provider_unavailable"

    provider.choose(HangingProvider(another_worker_goes_on))
    work()

    assert attempts(payment)[0] == ("charge", CHARGED)
    assert makers.reload(payment).status == "failed"
    assert makers.review(payment) == "the PSP charged it, but it is failed"


def test_a_charge_that_is_heard_of_after_its_lease_completes_a_payment_that_waits_for_it():
    payment = makers.payment()

    def another_worker_goes_on() -> None:
        postgres.rows("UPDATE journal.jobs SET leased_until = NULL, attempts = attempts + 1")
        run("payments.charge", "payments.resolve")

    provider.choose(HangingProvider(another_worker_goes_on))
    run("payments.begin", "payments.charge", "payments.settle")
    assert (makers.reload(payment).status, makers.review(payment)) == ("completed", None)


def lose_settle_job(payment: Payment) -> None:
    """The job that would have settled what the PSP said is gone."""
    run("payments.begin", "payments.charge")
    assert attempts(payment)[0][1] in (CHARGED, "declined")
    postgres.rows("DELETE FROM journal.jobs WHERE name = 'payments.settle'")


@pytest.mark.parametrize(
    ("simulate", "status", "ends", "review"),
    [
        ("approve", "processing", "completed", None),
        ("decline", "processing", "failed", None),
        ("approve", "failed", "failed", "the PSP charged it, but it is failed"),
        ("decline", "completed", "completed", "the PSP declined it, but it is completed"),
    ],
)
def test_what_the_psp_said_and_nobody_settled_is_found_by_the_reconciler(simulate, status, ends, review):
    payment = makers.payment(simulate=simulate)
    lose_settle_job(payment)
    if status != "processing":
        payments.set_status(makers.reload(payment), PaymentStatus(status))
    postgres.rows("UPDATE payments.psp_attempts SET ended_at = clock_timestamp() - interval '4 seconds'")

    assert reconcile() == ["payments.settle"]
    assert (makers.reload(payment).status, makers.review(payment)) == (ends, review)
    # Once is enough.
    assert reconcile() == []
    assert [operation for operation, _ in attempts(payment)] == ["charge"]


def test_every_order_under_one_key_is_the_same_order_whatever_is_edited_meanwhile():
    orders = []
    stub = makers.stub()

    class Watched(Stub):
        def charge(self, order: provider.Order) -> Answer:
            orders.append(order)
            return stub.charge(order)

    provider.choose(Watched(payment_jobs.receive_notice, sleep=lambda _seconds: None))
    payment = makers.payment(simulate="blackout", order="A-1")
    run("payments.begin")
    for note in ("before the first call", "asked the PSP by telephone"):
        payments.edit(makers.reload(payment), metadata={"note": note})
        work()
    # Its voice is back, and it has never heard of the order.
    postgres.rows("DELETE FROM psp.orders")
    set_age(payment, ago=60, taken_up=31)
    reconcile()

    assert [order.metadata for order in orders] == [{"simulate": "blackout", "order": "A-1"}] * len(orders)
    assert len(orders) > 1
    assert makers.reload(payment).metadata == {"note": "asked the PSP by telephone"}


def test_metadata_that_was_edited_before_the_payment_began_is_what_the_psp_gets():
    payment = makers.payment(simulate="approve")
    payments.edit(payment, metadata={"simulate": "decline"})
    work()
    assert makers.reload(payment).status == "failed"


def test_of_payments_whose_settling_waits_for_its_turn_nobody_asks_the_psp():
    waiting = [makers.payment() for _ in range(100)]
    run("payments.begin", "payments.charge")
    for payment in waiting:
        set_age(payment, ago=60)
    postgres.rows("UPDATE payments.psp_attempts SET ended_at = clock_timestamp() - interval '60 seconds'")
    assert reconcile() == ["payments.settle"] * 100
    assert [attempts(payment) for payment in waiting] == [[("charge", CHARGED)]] * 100


def test_while_the_unknown_outcome_of_a_payment_waits_to_be_decided_nobody_asks_the_psp():
    payment = makers.payment(simulate="timeout")
    run("payments.begin", "payments.charge")
    set_age(payment, ago=60)
    makers.enqueue_scheduled(payment_reconciliation.reconcile)
    run("payments.reconcile")
    assert job_journal.JobRow.select().where(job_journal.JobRow.name == "payments.inquire").count() == 0
    assert work() == ["payments.resolve", "payments.inquire", "payments.settle"]


# --- by hand --------------------------------------------------------------------------------------------


def admin_context() -> RequestContext:
    return RequestContext(f"request-{uuid4().hex}", makers.user(Role.ADMIN).id, "203.0.113.7", "curl/8")


@pytest.mark.parametrize(
    "calls",
    [
        # Nobody has asked what it knows; a call may still be heard; it does not say; it was asked too early.
        [],
        [("charge", None, 1), ("find", NOT_FOUND, 0)],
        [("charge", NO_ANSWER, 1), ("find", NOT_FOUND, 0)],
        [("charge", NO_ANSWER, 60), ("find", NO_ANSWER, 1)],
        [("charge", UNAVAILABLE, 3), ("find", NOT_FOUND, 2), ("charge", UNAVAILABLE, 1)],
        # It was answered while somebody looked, and that is not settled yet.
        [("charge", CHARGED, 8), ("find", NOT_FOUND, 5)],
        # The answer is older than the last moment at which the call could be heard.
        [("charge", NO_ANSWER, MAY_ARRIVE_S + 10), ("find", NOT_FOUND, MAY_ARRIVE_S + 9)],
    ],
)
def test_nobody_fails_by_hand_what_the_psp_may_have(calls):
    payment, by = payment_without_jobs(), admin_context()
    for operation, outcome, ago in calls:
        record_call(payment, outcome, ago=ago, operation=operation)

    enqueue_and_run(payment_endings.fail.job(payment.id, "it hangs", by))

    assert makers.reload(payment).status == "processing"
    [row] = refusals(payment)
    assert row.details == {"step": "fail", "status": "processing", "reason": "it hangs"}
    assert context_of(row) == by


def test_what_the_psp_has_not_and_cannot_get_is_failed_by_hand():
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
    [*_, row] = audit_log.of_resource(payment.id)
    assert (row.action, context_of(row)) == ("payments.payment.fail", by)
    [*_, moved] = payments.history(payment.id)
    assert (moved.actor_id, moved.reason) == (by.user_id, "it hangs")


def test_a_payment_that_was_begun_meanwhile_is_not_cancelled():
    payment, by = makers.payment(), admin_context()
    with transaction():
        enqueue(payment_endings.cancel.job(payment.id, "ordered twice", by))
    run("payments.begin", "payments.cancel")

    [row] = refusals(payment)
    assert row.details == {"step": "cancel", "status": "processing", "reason": "ordered twice"}
    assert context_of(row) == by
    assert makers.reload(payment).status == "completed"
    assert charges(payment) == [CHARGED]


def test_a_payment_that_was_cancelled_is_never_begun():
    payment, by = makers.payment(), admin_context()
    with transaction():
        enqueue(payment_endings.cancel.job(payment.id, "ordered twice", by))
    run("payments.cancel")
    assert work() == ["payments.begin"]

    assert makers.reload(payment).status == "cancelled"
    assert (charges(payment), attempts(payment), refusals(payment)) == ([], [], [])
    [*_, row] = audit_log.of_resource(payment.id)
    assert (row.action, context_of(row)) == ("payments.payment.cancel", by)


def test_a_call_after_a_failure_by_hand_is_not_made():
    payment = payment_without_jobs()
    record_call(payment, UNAVAILABLE, ago=2)
    record_call(payment, NOT_FOUND, ago=1, operation="find")
    enqueue_and_run(payment_endings.fail.job(payment.id, None, admin_context()))
    before = attempts(payment)

    enqueue_and_run(payment_jobs.charge.job(payment.id))

    assert attempts(payment) == before
    assert (charges(payment), makers.reload(payment).status) == ([], "failed")


def context_of(row: audit_log.AuditLog) -> RequestContext:
    return RequestContext(row.request_id, row.user_id, row.ip_address, row.user_agent)
