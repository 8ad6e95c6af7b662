"""Concurrent operations on the same payments: threads, each with a connection of its own."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from itertools import cycle
from random import Random
from typing import Any
from uuid import UUID

import pytest

from actors import (
    audit,
    jobs,
    mail_sender,
    payable,
    payment_edits,
    payment_endings,
    payment_jobs,
    payment_reconciliation,
    transitions,
)
from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.settings import MailSettings
from db import audit_log, config, job_journal, personal_data, postgres, psp_attempts
from db.config import ConfigKey
from db.core import request_context
from db.core.request_context import RequestContext
from db.payments import Payment
from db.psp_attempts import PspOperation
from db.psp_ledger import Charge
from db.states import PaymentStatus
from db.users import Role, User
from tests import makers, payment_rules
from tests.makers import SECRETS
from tests.tables import JobRow

# How often a snapshot of the database is checked while threads run.
CHECK_EVERY_S = 0.02
# The scenarios of the stub that end without a wait.
SIMULATED = ["approve", "decline", "error", "outage", "timeout", "duplicate", "blackout"]


@pytest.fixture(autouse=True)
def committed(stores) -> Iterator[None]:
    """Data is committed, and deleted afterwards."""
    provider.choose(makers.stub())
    mail_sender.configure(MailSettings.read({**SECRETS, **stores}), transport=makers.mailbox)
    request_context.bind(request_context.EMPTY)
    yield
    makers.wipe()


@pytest.fixture
def admin() -> RequestContext:
    with postgres.connection():
        return RequestContext(user_id=makers.user(Role.ADMIN).id)


def at_once(*operations: Callable[[], object], meanwhile: Callable[[], object] | None = None) -> None:
    """Run each in a thread with a connection of its own, started at the same moment; raise what one raises.

    `meanwhile` runs in this thread until they have ended, with a pause after each run: without one it would
    take most of the interpreter's time from the threads.
    """
    begin = threading.Barrier(len(operations))

    def run_operation(operation: Callable[[], object]) -> None:
        with postgres.connection():
            begin.wait(60)
            operation()

    with ThreadPoolExecutor(len(operations)) as threads:
        done = [threads.submit(run_operation, operation) for operation in operations]
        while meanwhile and not all(future.done() for future in done):
            meanwhile()
            wait(done, timeout=CHECK_EVERY_S)
    for future in done:
        future.result()


def delay(round_trips: int) -> None:
    """Make so many round trips to the database, which shifts the point at which two threads meet."""
    for _ in range(round_trips):
        postgres.rows("SELECT")


def enqueue_all(*queued: job_journal.Job) -> list[UUID]:
    with transaction():
        for job in queued:
            enqueue(job)
    return [job.id for job in queued]


def waiting(*names: str) -> list[JobRow]:
    """Return the jobs with these names, or all jobs of payments."""
    rows = JobRow.select().order_by(JobRow.position)
    name = JobRow.name
    return list(rows.where(name.in_(names) if names else name.startswith("payments.")))


def run(*names: str) -> None:
    """Run the jobs with these names until none is left."""
    while queued := waiting(*names):
        for job in queued:
            jobs.registry[job.name].perform(job.id)


def run_all() -> Counter[str]:
    """Run all jobs; return the number of payments and requests in each status."""
    makers.work()
    assert JobRow.select().count() == 0
    return Counter(payment.status for payment in Payment.select())


class RandomOperations:
    """Random operations on the same few payments."""

    def __init__(self, admin: RequestContext) -> None:
        self.admin = admin
        self.vendor, self.customers = makers.user(Role.VENDOR), [makers.user() for _ in range(3)]
        self.requests = [makers.request(self.vendor).id for _ in range(8)]
        run("payments.begin")
        self.edits: Counter[UUID] = Counter()
        self.counting = threading.Lock()

    def thread(self, seed: int, rounds: int) -> Callable[[], None]:
        """Return a function that runs so many operations; most of them run a job."""

        def run() -> None:
            random = Random(seed)
            rare = [self.cancel, self.fail, self.edit, self.expire, self.reconcile, self.pay, self.publish]
            for _ in range(rounds):
                random.choice([*rare, *3 * [self.pay_request], *6 * [self.run_job]])(random)

        return run

    def run_job(self, random: Random) -> None:
        self.perform(*waiting()[: random.randrange(1, 9)][-1:])

    def publish(self, _random: Random) -> None:
        self.perform(*waiting("records.append", "events.publish", "mail.notify_payment_ended")[:1])

    def pay(self, random: Random) -> None:
        makers.payment(random.choice(self.customers), simulate=random.choice(SIMULATED))

    def pay_request(self, random: Random) -> None:
        customer, simulate = random.choice(self.customers), random.choice(SIMULATED)
        with suppress(payable.RequestNotPayable):
            pay_request(random.choice(self.requests), customer, simulate=simulate)

    def cancel(self, random: Random) -> None:
        self.enqueue_and_run(payment_endings.cancel.job(self.any_id(random), None, self.admin))

    def fail(self, random: Random) -> None:
        self.enqueue_and_run(payment_endings.fail.job(self.any_id(random), None, self.admin))

    def edit(self, random: Random) -> None:
        with suppress(payment_edits.NotEditable), transaction():
            payment = transitions.locked(self.any_id(random))
            changes = {"description": f"Order {random.random()}"}
            payment_edits.require_editable(payment, changes)
            payment_edits.edit(payment, changes)
            with self.counting:
                self.edits[payment.id] += 1

    def expire(self, random: Random) -> None:
        ttl = float(config.number(config.ConfigKey.PAYMENTS_REQUEST_TTL_HOURS))
        older = "UPDATE payments.payments SET created_at = created_at - %s * interval '1 hour' WHERE id = %s"
        postgres.rows(older, ttl, random.choice(self.requests))
        self.enqueue_and_run(payment_endings.expire_requests.job())

    def reconcile(self, random: Random) -> None:
        older = "UPDATE payments.payments SET updated_at = updated_at - interval '1 minute' WHERE id = %s"
        postgres.rows(older, self.any_id(random))
        self.enqueue_and_run(payment_reconciliation.reconcile.job())

    def any_id(self, random: Random) -> UUID:
        return random.choice([row.id for row in Payment.select(Payment.id).order_by(Payment.created_at)])

    def enqueue_and_run(self, job: job_journal.Job) -> None:
        enqueue_all(job)
        self.perform(job)

    def perform(self, *queued: job_journal.Job | JobRow) -> None:
        for job in queued:
            jobs.registry[job.name].perform(job.id)


def pay_request(id: UUID, customer: User, **metadata: str) -> Payment:
    with transaction():
        return payment_jobs.pay_request(id, customer_id=customer.id, description=None, metadata=metadata)


def check_snapshot() -> None:
    """Check everything in one snapshot of the database."""
    with postgres.connection(), postgres.database.atomic():
        postgres.rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        payment_rules.check_all()


@pytest.mark.parametrize("seed", range(3))
def test_concurrent_operations_never_break_the_rules_of_payments(admin, seed):
    with postgres.connection():
        random_operations = RandomOperations(admin)
    at_once(
        *[random_operations.thread(seed * 100 + n, rounds=40) for n in range(5)], meanwhile=check_snapshot
    )
    with postgres.connection():
        assert [(job.name, job.error) for job in JobRow.select() if job.error] == []
        payment_rules.check_all(random_operations.edits)
        assert PaymentStatus.PENDING not in run_all()
        payment_rules.check_all(random_operations.edits)


def test_a_cancellation_that_races_the_charge_wins_before_it_or_is_refused(admin):
    with postgres.connection():
        customer = makers.user()
        made = [makers.payment(customer) for _ in range(48)]
        begins = [job.id for job in waiting("payments.begin")]
        cancels = enqueue_all(
            *[payment_endings.cancel.job(payment.id, "Ordered twice", admin) for payment in made]
        )

    def begin_and_charge(id: UUID, round_trips: int) -> None:
        delay(round_trips)
        payment_jobs.begin.perform(id)
        run("payments.charge")

    def cancel(id: UUID, round_trips: int) -> None:
        delay(round_trips)
        payment_endings.cancel.perform(id)

    first, second, *others = zip(begins, cancels, strict=True)
    for n, (begun, cancelled) in enumerate(others):
        at_once(
            partial(begin_and_charge, begun, round_trips=n % 3), partial(cancel, cancelled, round_trips=n % 4)
        )
    with postgres.connection():
        # On a busy machine all of these races can end alike.
        begin_and_charge(first[0], round_trips=0)
        cancel(first[1], round_trips=0)
        cancel(second[1], round_trips=0)
        begin_and_charge(second[0], round_trips=0)
        payment_rules.check_all({})
        ended = run_all()
        assert ended.keys() == {PaymentStatus.COMPLETED, PaymentStatus.CANCELLED}
        refused = audit_log.AuditLog.select().where(
            audit_log.AuditLog.action == audit.AuditAction.TRANSITION_REFUSED
        )
        assert refused.count() == ended[PaymentStatus.COMPLETED] == Charge.select().count()


def test_a_failure_by_hand_that_races_the_charge_wins_before_it_or_is_refused(admin, monkeypatch):
    with postgres.connection():
        customer = makers.user()
        made = [makers.payment(customer) for _ in range(24)]
        run("payments.begin")
        charges = [job.id for job in waiting("payments.charge")]
        # The inquiry finds no order at the PSP, so that failing is allowed as long as that stays so.
        enqueue_all(*[payment_jobs.inquire_job(payment.id) for payment in made])
        run("payments.inquire")
        fails = enqueue_all(
            *[payment_endings.fail.job(payment.id, "It takes too long", admin) for payment in made]
        )
    written, meeting, round_trips = psp_attempts.begin, threading.Barrier(2), cycle(range(12))

    def begin(calls: Mapping[UUID, UUID], operation: PspOperation, *, max_charges: int) -> dict[UUID, Any]:
        if operation is PspOperation.CHARGE:
            meeting.wait(60)
            delay(next(round_trips))
        return written(calls, operation, max_charges=max_charges)

    def fail(id: UUID) -> None:
        meeting.wait(60)
        payment_endings.fail.perform(id)

    monkeypatch.setattr(psp_attempts, "begin", begin)
    first, second, *others = zip(charges, fails, strict=True)
    for charge, failure in others:
        at_once(partial(payment_jobs.charge.perform, charge), partial(fail, failure))
    monkeypatch.undo()
    with postgres.connection():
        # On a busy machine all of these races can end alike.
        payment_jobs.charge.perform(first[0])
        payment_endings.fail.perform(first[1])
        payment_endings.fail.perform(second[1])
        payment_jobs.charge.perform(second[0])
        payment_rules.check_all({})
        ended = run_all()
        assert ended.keys() == {PaymentStatus.COMPLETED, PaymentStatus.FAILED}
        assert ended[PaymentStatus.COMPLETED] == Charge.select().count()


def test_one_of_three_customers_who_pay_a_request_at_once_pays():
    with postgres.connection():
        vendor, customers = makers.user(Role.VENDOR), [makers.user() for _ in range(3)]
        requests = [makers.request(vendor) for _ in range(8)]
        run("payments.begin")
    for request in requests:
        accepted: list[Payment] = []

        def pay(customer: User, id: UUID = request.id, accepted: list[Payment] = accepted) -> None:
            with suppress(payable.RequestNotPayable):
                accepted.append(pay_request(id, customer))

        at_once(*[partial(pay, customer) for customer in customers])
        assert len(accepted) == 1
    with postgres.connection():
        payment_rules.check_all({})
        assert run_all() == {PaymentStatus.COMPLETED: 16}


def test_concurrent_payments_of_one_customer_stay_within_the_limits(admin):
    with postgres.connection():
        customer = makers.user()
        with transaction():
            config.update(
                {ConfigKey.PAYMENTS_DAILY_LIMIT: 5, ConfigKey.PAYMENTS_UNVERIFIED_AMOUNT: "20.00"},
                admin.user_id,
            )
        config.clear_cache()
    refused: Counter[type[Exception]] = Counter()

    def pay() -> None:
        try:
            makers.payment(customer, amount="5.00")
        except (payable.TooManyPayments, payable.EmailNotVerified) as fault:
            refused[type(fault)] += 1

    at_once(*[pay] * 8)
    with postgres.connection():
        assert Payment.select().count() == 4
        User.update(email_verified=True).where(User.id == customer.id).execute()
    at_once(*[pay] * 8)
    config.clear_cache()
    assert refused == {payable.EmailNotVerified: 4, payable.TooManyPayments: 7}


def test_a_request_that_expires_while_a_customer_pays_is_either_paid_or_expired():
    with postgres.connection():
        vendor, customer = makers.user(Role.VENDOR), makers.user()
    paid = []

    def pay(id: UUID, round_trips: int) -> None:
        delay(round_trips)
        with suppress(payable.RequestNotPayable):
            paid.append(pay_request(id, customer))

    for n in range(16):
        with postgres.connection():
            request = makers.request(vendor)
            run("payments.begin")
            postgres.rows("UPDATE payments.payments SET created_at = created_at - interval '1 month'")
            [expire] = enqueue_all(payment_endings.expire_requests.job())
        at_once(
            partial(pay, request.id, round_trips=n % 8),
            partial(payment_endings.expire_requests.perform, expire),
        )
    with postgres.connection():
        payment_rules.check_all({})
        assert run_all() == Counter(
            {PaymentStatus.COMPLETED: 2 * len(paid), PaymentStatus.FAILED: 16 - len(paid)}
        )


@pytest.mark.parametrize("email", ["next@example.com", None])
def test_a_request_whose_vendor_names_another_customer_is_not_erased(email):
    with postgres.connection():
        customer = makers.user()
        request = makers.request(customer_email=customer.email)
    closed, free = "closed@closed.invalid", [customer.email]

    def erase() -> None:
        assert renamed.wait(20)
        with transaction():
            assert personal_data.erase_from_requests(customer.id, free, closed=closed, limit=9) == []

    def rename() -> None:
        with transaction():
            Payment.update(customer_email=email).where(Payment.id == request.id).execute()
            renamed.set()
            makers.until(lambda: postgres.rows(WAITS_FOR_A_LOCK) or None)

    renamed = threading.Event()
    at_once(rename, erase)
    with postgres.connection():
        assert makers.reload(request).customer_email == email


WAITS_FOR_A_LOCK = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
