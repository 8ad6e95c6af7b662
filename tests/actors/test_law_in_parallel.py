"""The law where it is raced: threads on connections of their own, at the same payments at the same moment."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import cycle
from random import Random
from uuid import UUID

import pytest

from actors import (
    audit,
    jobs,
    mail,
    payable,
    payment_edits,
    payment_endings,
    payment_jobs,
    payment_limits,
    payment_reconciliation,
    transitions,
)
from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.settings import MailSettings
from db import audit_log, config, job_journal, postgres, psp_attempts
from db.config import ConfigKey
from db.core import request_context
from db.core.request_context import RequestContext
from db.payments import Payment
from db.psp_attempts import PspOperation
from db.psp_ledger import Charge
from db.states import PaymentStatus
from db.users import Role, User
from tests import law, makers
from tests.makers import SECRETS

SIMULATED = ["approve", "decline", "error", "outage", "timeout", "duplicate", "blackout"]


@pytest.fixture(autouse=True)
def committed(stores) -> Iterator[None]:
    """Data that is really committed, and cleaned up."""
    provider.choose(makers.stub())
    mail.configure(MailSettings.read({**SECRETS, **stores}), by=makers.mailbox)
    request_context.bind(request_context.EMPTY)
    yield
    makers.wipe()


@pytest.fixture
def boss() -> RequestContext:
    with postgres.connection():
        return RequestContext(user_id=makers.user(Role.ADMIN).id)


def at_once(*works: Callable[[], object], meanwhile: Callable[[], object] | None = None) -> None:
    """Does each in a thread and on a connection of its own, begun at the same moment; raises what one raises.

    `meanwhile` is done in this thread, again and again until they are all through.
    """
    begin = threading.Barrier(len(works))

    def do(work: Callable[[], object]) -> None:
        with postgres.connection():
            begin.wait(20)
            work()

    with ThreadPoolExecutor(len(works)) as threads:
        done = [threads.submit(do, work) for work in works]
        while meanwhile and not all(it.done() for it in done):
            meanwhile()
    for it in done:
        it.result()


def late(trips: int) -> None:
    """Some round trips to the database: so that each time two meet at another point."""
    for _ in range(trips):
        postgres.rows("SELECT")


def promised(*tasks: job_journal.Job) -> list[UUID]:
    with transaction():
        for task in tasks:
            enqueue(task)
    return [task.id for task in tasks]


def waiting(*names: str) -> list[job_journal.JobRow]:
    """What is promised of these verbs, or of all of the payments'."""
    promises = job_journal.JobRow.select().order_by(job_journal.JobRow.position)
    verb = job_journal.JobRow.name
    return list(promises.where(verb.in_(names) if names else verb.startswith("payments.")))


def do(*names: str) -> None:
    """Does whatever is promised of these verbs."""
    while tasks := waiting(*names):
        for task in tasks:
            jobs.registry[task.name].perform(task.id)


def rest() -> Counter[str]:
    """Does all that is promised; the payments and requests in each status then."""
    makers.work()
    assert job_journal.JobRow.select().count() == 0
    return Counter(it.status for it in Payment.select())


class Crowd:
    """Many who do at random whatever can be done to the same few payments."""

    def __init__(self, boss: RequestContext) -> None:
        self.boss = boss
        self.vendor, self.customers = makers.user(Role.VENDOR), [makers.user() for _ in range(3)]
        self.requests = [makers.request(self.vendor).id for _ in range(8)]
        do("payments.begin")
        self.edits: Counter[UUID] = Counter()
        self.counting = threading.Lock()

    def member(self, seed: int, rounds: int) -> Callable[[], None]:
        """Does so many things; most of all work."""

        def act() -> None:
            random = Random(seed)
            rare = [self.cancel, self.fail, self.edit, self.expire, self.reconcile, self.pay, self.tell]
            for _ in range(rounds):
                random.choice([*rare, *3 * [self.pay_request], *6 * [self.work]])(random)

        return act

    def work(self, random: Random) -> None:
        self.perform(*waiting()[: random.randrange(1, 9)][-1:])

    def tell(self, _random: Random) -> None:
        self.perform(
            *waiting("audit.write", "events.append", "events.publish", "mail.notify_payment_ended")[:1]
        )

    def pay(self, random: Random) -> None:
        makers.payment(random.choice(self.customers), simulate=random.choice(SIMULATED))

    def pay_request(self, random: Random) -> None:
        customer, simulate = random.choice(self.customers), random.choice(SIMULATED)
        with suppress(payable.RequestNotPayable):
            pay_request(random.choice(self.requests), customer, simulate=simulate)

    def cancel(self, random: Random) -> None:
        self.ask(payment_endings.cancel.job(self.anything(random), None, self.boss))

    def fail(self, random: Random) -> None:
        self.ask(payment_endings.fail.job(self.anything(random), None, self.boss))

    def edit(self, random: Random) -> None:
        with suppress(payment_edits.NotEditable), transaction():
            payment = transitions.locked(self.anything(random))
            payment_edits.edit(payment, {"description": f"In {random.random()} words"})
            with self.counting:
                self.edits[payment.id] += 1

    def expire(self, random: Random) -> None:
        ttl = float(config.number(config.ConfigKey.PAYMENTS_REQUEST_TTL_HOURS))
        older = "UPDATE payments.payments SET created_at = created_at - %s * interval '1 hour' WHERE id = %s"
        postgres.rows(older, ttl, random.choice(self.requests))
        self.ask(payment_endings.expire_requests.job())

    def reconcile(self, random: Random) -> None:
        older = "UPDATE payments.payments SET updated_at = updated_at - interval '1 minute' WHERE id = %s"
        postgres.rows(older, self.anything(random))
        self.ask(payment_reconciliation.reconcile.job())

    def anything(self, random: Random) -> UUID:
        return random.choice([it.id for it in Payment.select(Payment.id).order_by(Payment.created_at)])

    def ask(self, task: job_journal.Job) -> None:
        promised(task)
        self.perform(task)

    def perform(self, *tasks: job_journal.Job | job_journal.JobRow) -> None:
        for task in tasks:
            jobs.registry[task.name].perform(task.id)


def pay_request(id: UUID, customer: User, **metadata: str) -> Payment:
    with transaction():
        return payment_jobs.pay_request(id, customer_id=customer.id, description=None, metadata=metadata)


def look() -> None:
    """Everything at one moment, however much is under way."""
    with postgres.connection(), postgres.database.atomic():
        postgres.rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        law.holds()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_crowd_does_at_once_nobody_sees_a_payment_outside_the_law(boss, seed):
    with postgres.connection():
        crowd = Crowd(boss)
    at_once(*[crowd.member(seed * 100 + n, rounds=80) for n in range(5)], meanwhile=look)
    with postgres.connection():
        assert [(it.name, it.error) for it in job_journal.JobRow.select() if it.error] == []
        law.holds(crowd.edits)
        assert PaymentStatus.PENDING not in rest()
        law.holds(crowd.edits)


def test_a_cancellation_that_races_the_charge_wins_before_it_or_not_at_all(boss):
    with postgres.connection():
        customer = makers.user()
        made = [makers.payment(customer) for _ in range(100)]
        begins = [task.id for task in waiting("payments.begin")]
        cancels = promised(*[payment_endings.cancel.job(it.id, "Ordered twice", boss) for it in made])

    def begin_and_charge(id: UUID, trips: int) -> None:
        late(trips)
        payment_jobs.begin.perform(id)
        do("payments.charge")
        do("payments.settle")

    def cancel(id: UUID, trips: int) -> None:
        late(trips)
        payment_endings.cancel.perform(id)

    for n, (begun, cancelled) in enumerate(zip(begins, cancels, strict=True)):
        at_once(partial(begin_and_charge, begun, trips=n % 3), partial(cancel, cancelled, trips=n % 4))
    with postgres.connection():
        law.holds({})
        ended = rest()
        assert ended.keys() == {PaymentStatus.COMPLETED, PaymentStatus.CANCELLED}
        refused = audit_log.AuditLog.select().where(
            audit_log.AuditLog.action == audit.AuditAction.TRANSITION_REFUSED
        )
        assert refused.count() == ended[PaymentStatus.COMPLETED] == Charge.select().count()


def test_a_failure_by_hand_that_races_the_charge_wins_before_it_or_not_at_all(boss, monkeypatch):
    with postgres.connection():
        customer = makers.user()
        made = [makers.payment(customer) for _ in range(40)]
        do("payments.begin")
        charges = [task.id for task in waiting("payments.charge")]
        # The PSP, asked first, knows of no such order: so it may be failed, as long as it stays so.
        promised(*[payment_jobs.inquire.job(it.id) for it in made])
        do("payments.inquire")
        fails = promised(*[payment_endings.fail.job(it.id, "It takes too long", boss) for it in made])
    written, meeting, trips = psp_attempts.begin, threading.Barrier(2), cycle(range(12))

    def begin(
        id: UUID, payment_id: UUID, operation: PspOperation, reference: str, *, first: bool = False
    ) -> psp_attempts.OrderTerms | None:
        if operation is PspOperation.CHARGE and not first:
            meeting.wait(10)
            late(next(trips))
        return written(id, payment_id, operation, reference, first=first)

    def fail(id: UUID) -> None:
        meeting.wait(10)
        payment_endings.fail.perform(id)

    monkeypatch.setattr(psp_attempts, "begin", begin)
    for charge, failure in zip(charges, fails, strict=True):
        at_once(partial(payment_jobs.charge.perform, charge), partial(fail, failure))
    monkeypatch.undo()
    with postgres.connection():
        law.holds({})
        ended = rest()
        assert ended.keys() == {PaymentStatus.COMPLETED, PaymentStatus.FAILED}
        assert ended[PaymentStatus.COMPLETED] == Charge.select().count()


def test_of_customers_who_pay_one_request_at_the_same_moment_one_pays():
    with postgres.connection():
        vendor, customers = makers.user(Role.VENDOR), [makers.user() for _ in range(3)]
        requests = [makers.request(vendor) for _ in range(15)]
        do("payments.begin")
    for request in requests:
        accepted: list[Payment] = []

        def pay(customer: User, id: UUID = request.id, accepted: list[Payment] = accepted) -> None:
            with suppress(payable.RequestNotPayable):
                accepted.append(pay_request(id, customer))

        at_once(*[partial(pay, customer) for customer in customers])
        assert len(accepted) == 1
    with postgres.connection():
        law.holds({})
        assert rest() == {PaymentStatus.COMPLETED: 30}


def test_of_payments_that_one_customer_makes_at_the_same_moment_no_more_are_taken_than_allowed(boss):
    with postgres.connection():
        customer = makers.user()
        with transaction():
            config.update(
                {ConfigKey.PAYMENTS_DAILY_LIMIT: 5, ConfigKey.PAYMENTS_UNVERIFIED_AMOUNT: "20.00"},
                boss.user_id,
            )
        config.clear_cache()
    refused: Counter[type[Exception]] = Counter()

    def pay() -> None:
        try:
            makers.payment(customer, amount="5.00")
        except (payment_limits.TooManyPayments, payment_limits.EmailNotVerified) as fault:
            refused[type(fault)] += 1

    at_once(*[pay] * 8)
    with postgres.connection():
        assert Payment.select().count() == 4
        User.update(email_verified=True).where(User.id == customer.id).execute()
    at_once(*[pay] * 8)
    config.clear_cache()
    assert refused == {payment_limits.EmailNotVerified: 4, payment_limits.TooManyPayments: 7}


def test_a_request_that_expires_while_it_is_paid_is_paid_or_expired():
    with postgres.connection():
        vendor, customer = makers.user(Role.VENDOR), makers.user()
    paid = []

    def pay(id: UUID, trips: int) -> None:
        late(trips)
        with suppress(payable.RequestNotPayable):
            paid.append(pay_request(id, customer))

    for n in range(20):
        with postgres.connection():
            request = makers.request(vendor)
            do("payments.begin")
            postgres.rows("UPDATE payments.payments SET created_at = created_at - interval '1 month'")
            [expire] = promised(payment_endings.expire_requests.job())
        at_once(
            partial(pay, request.id, trips=n % 8), partial(payment_endings.expire_requests.perform, expire)
        )
    with postgres.connection():
        law.holds({})
        assert rest() == Counter(
            {PaymentStatus.COMPLETED: 2 * len(paid), PaymentStatus.FAILED: 20 - len(paid)}
        )
