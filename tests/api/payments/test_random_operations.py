"""Random operations of several users and workers, in any order; the payment rules hold after each one."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

import pytest
from falcon.testing import Result
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from actors import audit, events, jobs, payment_endings, payment_jobs, payment_reconciliation
from actors.jobs import enqueue, transaction
from actors.state_machine import TRANSITIONS, Transition, is_allowed
from api.payments import prefer_wait
from db import config, event_log, payments, postgres, psp_ledger
from db.payments import Payment
from db.states import TERMINAL, PaymentStatus, PaymentType
from db.users import Role
from tests import makers, payment_rules
from tests.makers import Visitor
from tests.tables import JobRow

ROUNDS, MAX_ROUNDS, EXAMPLES_PER_ROUND = 1, 8, 8

ACCEPTED, CREATED, DONE = 202, 201, 200
FORBIDDEN, NOT_FOUND, CONFLICT, CHANGED_SINCE = 403, 404, 409, 412


@dataclass(frozen=True)
class Person:
    """A user of the API, and which payments the contract lets them see and change."""

    role: Role
    visitor: Visitor

    @property
    def id(self) -> UUID:
        return UUID(self.visitor.user["id"])

    @property
    def email(self) -> str:
        return str(self.visitor.user["email"])

    def sees(self, payment: Payment) -> bool:
        if self.role is Role.CUSTOMER:
            link = payment.type == PaymentType.INITIATE and (
                payment.customer_email is None or payment.addressee_id == self.id
            )
            return payment.user_id == self.id or link
        return self.role is Role.ADMIN or payment.payee_id == self.id

    def lists(self, payment: Payment) -> bool:
        """A request without an addressee can be read by its id, but is in no customer's list."""
        link = (
            self.role is Role.CUSTOMER
            and payment.type == PaymentType.INITIATE
            and payment.customer_email is None
        )
        return self.sees(payment) and not link

    def refusal_of_change(self, payment: Payment) -> int | None:
        """The status of the refusal; None if this user may change the payment as far as its status allows."""
        if self.role is Role.CUSTOMER:
            return FORBIDDEN
        if not self.sees(payment):
            return NOT_FOUND
        own = payment.type == PaymentType.INITIATE and payment.user_id == self.id
        return None if own or self.role is Role.ADMIN else FORBIDDEN


def allows(payment: Payment, step: Transition) -> bool:
    return is_allowed(PaymentType(payment.type), PaymentStatus(payment.status), step)


def payment_of(request: UUID, simulate: str | None = None) -> dict[str, Any]:
    metadata = {"simulate": simulate} if simulate else {}
    return {"type": "payment", "requestId": str(request), "metadata": metadata}


# The request that performs each allowed action.
REQUESTS: dict[str, Callable[[Visitor, UUID], Result]] = {
    "pay": lambda name, id: name.post("/payments", payment_of(id)),
    "update": lambda name, id: name.send("PUT", f"/payments/{id}", {"description": "In other words"}),
    "cancel": lambda name, id: name.send("DELETE", f"/payments/{id}"),
    "fail": lambda name, id: name.post(f"/payments/{id}/status", {"status": "failed"}),
}

TRANSITION_ACTIONS = {f"payments.payment.{step}" for step in Transition}
ENDED: dict[str, events.EventType] = {
    PaymentStatus.COMPLETED: events.EventType.PAYMENT_COMPLETED,
    PaymentStatus.FAILED: events.EventType.PAYMENT_FAILED,
}

EVERYBODY = ["customer 1", "customer 2", "vendor 1", "vendor 2", "admin"]
# Customers cannot change payments, so they try less often.
ANYBODY = st.sampled_from([*EVERYBODY, *EVERYBODY[2:], *6 * ["admin"]])
CUSTOMERS = st.sampled_from(EVERYBODY[:2])
VENDORS = st.sampled_from(EVERYBODY[2:4])
SIMULATED = st.sampled_from(
    [None, "approve", "decline", "error", "outage", "timeout", "duplicate", "blackout"]
)
CHANGES: dict[str, dict[str, Any]] = {
    "words": {"description": "Two chairs & a table"},
    "metadata": {"metadata": {"simulate": "decline"}},
    "amount": {"amount": "81.50"},
    "currency": {"currency": "EUR", "amount": 79},
    "addressee": {"customerEmail": None},
}
# An index into the payments, newest first, modulo their number.
WHICH = st.integers(0, 9)
# An index into the job journal from either end: messages arrive in any order.
PLACES = st.sampled_from([-1, 0, -2, 1, -3, 2])
VERSIONS = st.sampled_from(["any", "this", "older"])


def often(
    times: int, name: str, **arguments: st.SearchStrategy[Any]
) -> list[st.SearchStrategy[tuple[str, dict[str, Any]]]]:
    return [st.tuples(st.just(name), st.fixed_dictionaries(arguments)) for _ in range(times)]


# One rule for all steps: Hypothesis enables only some of many rules in an example, mostly too few for a
# whole payment.
STEPS = st.one_of(
    *often(6, "work", place=PLACES),
    *often(1, "work_on_all", newest_first=st.booleans()),
    *often(1, "deliver_again", which=WHICH),
    *often(1, "publish"),
    *often(1, "reconcile_later"),
    *often(1, "let_it_expire", request=WHICH),
    *often(1, "ask", user=VENDORS, link=st.booleans()),
    *often(2, "pay", user=CUSTOMERS, simulate=SIMULATED),
    *often(4, "pay_request", user=CUSTOMERS, request=WHICH, simulate=SIMULATED),
    *often(4, "cancel", user=ANYBODY, which=WHICH),
    *often(
        4,
        "set_status",
        user=ANYBODY,
        which=WHICH,
        to=st.sampled_from([*PaymentStatus, *4 * [PaymentStatus.FAILED]]),
    ),
    *often(2, "edit", user=ANYBODY, which=WHICH, change=st.sampled_from(sorted(CHANGES)), version=VERSIONS),
)


class Machine(RuleBasedStateMachine):
    """Two customers, two vendors, an administrator, and workers that run jobs in any order."""

    people: ClassVar[dict[str, Person]]
    reached: ClassVar[set[tuple[str, str]]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.edits: Counter[UUID] = Counter()
        self.known: dict[UUID, tuple[int, str]] = {}
        self.requests: list[UUID] = []
        self.all: list[UUID] = []
        self.done: list[JobRow] = []
        self.turn = 0
        self.example = ExitStack()
        savepoint = self.example.enter_context(postgres.database.atomic())
        self.example.callback(savepoint.rollback)

    @initialize(opened=st.booleans(), simulate=SIMULATED)
    def begin(self, opened, simulate):
        self.ask("vendor 1", link=False)
        self.ask("vendor 2", link=True)
        if opened:
            self.work_on_all(newest_first=False)
        self.pay("customer 2", simulate)

    @rule(step=STEPS)
    def take(self, step):
        name, arguments = step
        getattr(self, name)(**arguments)

    # --- requests ---------------------------------------------------------------------------------------

    def ask(self, user: str, link: bool) -> None:
        body = {"type": "initiate", "amount": "80.00"}
        if not link:
            body["customerEmail"] = self.people["customer 1"].email
        self.requests.append(self.made(self.people[user].visitor.post("/payments", body)))

    def pay(self, user: str, simulate: str | None) -> None:
        metadata = {"simulate": simulate} if simulate else {}
        body = {"type": "payment", "amount": "12.50", "metadata": metadata}
        self.made(self.people[user].visitor.post("/payments", body))

    def pay_request(self, user: str, request: int, simulate: str | None) -> None:
        payment, person = self.one_of(self.requests, request), self.people[user]
        answer = person.visitor.post("/payments", payment_of(payment.id, simulate))
        if not person.sees(payment):
            assert answer.status_code == NOT_FOUND
        elif payment.status != PaymentStatus.INITIATED:
            assert makers.error(answer) == (CONFLICT, "REQUEST_NOT_PAYABLE")
        else:
            self.made(answer)

    def cancel(self, user: str, which: int) -> None:
        payment, person = self.one_of(self.all, which), self.people[user]
        answer = person.visitor.send("DELETE", f"/payments/{payment.id}")
        allowed = ACCEPTED if allows(payment, Transition.CANCEL) else CONFLICT
        assert answer.status_code == (person.refusal_of_change(payment) or allowed)

    def set_status(self, user: str, which: int, to: PaymentStatus) -> None:
        payment, person = self.one_of(self.all, which), self.people[user]
        answer = person.visitor.post(f"/payments/{payment.id}/status", {"status": to, "reason": "Because"})
        expected = person.refusal_of_change(payment)
        if expected is None and to is PaymentStatus.CANCELLED:
            expected = ACCEPTED if allows(payment, Transition.CANCEL) else CONFLICT
        elif expected is None and person.role is not Role.ADMIN:
            expected = FORBIDDEN
        elif expected is None and to is PaymentStatus.FAILED:
            expected = ACCEPTED if allows(payment, Transition.FAIL) and not silent(payment) else CONFLICT
        assert answer.status_code == (expected or CONFLICT)

    def edit(self, user: str, which: int, change: str, version: str) -> None:
        payment, person = self.one_of(self.all, which), self.people[user]
        named = {"any": None, "this": payment.version, "older": payment.version - 1}[version]
        headers = {"If-Match": f'"{named}"'} if named is not None else {}
        answer = person.visitor.send("PUT", f"/payments/{payment.id}", CHANGES[change], headers=headers)
        expected = person.refusal_of_change(payment)
        if expected is None and version == "older":
            expected = CHANGED_SINCE
        elif expected is None and payment.status not in TERMINAL:
            words = change in ("words", "metadata")
            open_request = payment.type == PaymentType.INITIATE and payment.status in (
                PaymentStatus.PENDING,
                PaymentStatus.INITIATED,
            )
            expected = DONE if words or open_request else CONFLICT
        assert answer.status_code == (expected or CONFLICT)
        self.edits[payment.id] += answer.status_code == DONE

    def made(self, answer: Result) -> UUID:
        assert answer.status_code == CREATED, answer.text
        assert answer.json["data"]["status"] == "pending"
        self.all.append(UUID(answer.json["data"]["id"]))
        return self.all[-1]

    def one_of(self, ids: list[UUID], which: int) -> Payment:
        found = payments.get(ids[-1 - which % len(ids)])
        assert found is not None
        return found

    # --- jobs -------------------------------------------------------------------------------------------

    def work(self, place: int) -> None:
        if found := waiting("payments."):
            self.perform(found[place % len(found)])

    def work_on_all(self, newest_first: bool) -> None:
        for job in sorted(waiting("payments."), key=lambda payment: payment.position, reverse=newest_first):
            self.perform(job)

    def deliver_again(self, which: int) -> None:
        if self.done:
            again = self.done[-1 - which % len(self.done)]
            jobs.registry[again.name].perform(again.id)

    def publish(self) -> None:
        for job in waiting("records.", "events.", "mail."):
            jobs.registry[job.name].perform(job.id)

    def let_it_expire(self, request: int) -> None:
        ttl = float(config.number(config.ConfigKey.PAYMENTS_REQUEST_TTL_HOURS))
        postgres.rows(
            "UPDATE payments.payments SET created_at = created_at - %s * interval '1 hour' WHERE id = %s",
            ttl,
            self.one_of(self.requests, request).id,
        )
        with transaction():
            enqueue(payment_endings.expire_requests.job())

    def reconcile_later(self) -> None:
        postgres.rows("UPDATE payments.payments SET updated_at = updated_at - interval '1 minute'")
        postgres.rows(
            "UPDATE payments.payments_in_progress SET reconcile_at = reconcile_at - interval '1 minute'"
        )
        postgres.rows(
            "UPDATE payments.psp_attempts SET created_at = created_at - interval '1 minute',"
            " ended_at = ended_at - interval '1 minute'"
        )
        with transaction():
            enqueue(payment_reconciliation.reconcile.job())

    def perform(self, job: JobRow) -> None:
        jobs.registry[job.name].perform(job.id)
        left = JobRow.get_or_none(JobRow.id == job.id)
        assert left is None, f"{job.name}: {left.error}"
        self.done.append(job)

    # --- invariants -------------------------------------------------------------------------------------

    @invariant()
    def the_payment_rules_hold(self):
        now = payment_rules.check_all(self.edits)
        self.reached.update((payment.type, payment.status) for payment in now)
        touched = [
            payment for payment in now if self.known.get(payment.id) != (payment.version, payment.status)
        ]
        self.known = {payment.id: (payment.version, payment.status) for payment in now}
        for payment in touched:
            self.turn += 1
            self.allowed_actions_succeed(EVERYBODY[self.turn % len(EVERYBODY)], payment)

    def allowed_actions_succeed(self, name: str, payment: Payment) -> None:
        """One user reads the payment and tries every action: exactly the allowed ones succeed."""
        person = self.people[name]
        seen = person.visitor.get(f"/payments/{payment.id}")
        allowed: list[str] = []
        if person.sees(payment):
            shown = seen.json["data"]
            assert (shown["status"], seen.headers["ETag"]) == (payment.status, f'"{payment.version}"')
            allowed = shown["allowedActions"]
        else:
            assert seen.status_code == NOT_FOUND
        for action, attempt in REQUESTS.items():
            with postgres.database.atomic() as savepoint:
                answer = attempt(person.visitor, payment.id)
                # A silent PSP does not say whether the payment can be failed.
                unknown = action == "fail" and silent(payment)
                savepoint.rollback()
            done = answer.status_code < 300
            assert done == (action in allowed and not unknown), (
                f"{name} finds {payment.type} {payment.status} with {allowed}, and {action} answers {answer.text}"
            )

    def teardown(self) -> None:
        with self.example:
            makers.work()
            assert JobRow.select().count() == 0
            published = event_log.after(0, 10_000)
            for payment in payment_rules.check_all(self.edits):
                self.is_at_rest(payment)
                self.was_published(
                    payment, [event for event in published if event.data.get("id") == str(payment.id)]
                )
            self.lists_are_complete()

    def is_at_rest(self, payment: Payment) -> None:
        assert payment.status != PaymentStatus.PENDING
        if payment.type == PaymentType.PAYMENT and payment.status == PaymentStatus.PROCESSING:
            assert silent(payment)
            assert makers.review(payment)

    def was_published(self, payment: Payment, published: Sequence[event_log.Event]) -> None:
        """Every change has its audit entry and its event, in the order of the changes."""
        steps = [f"payments.payment.{row.transaction_type}" for row in payments.history(payment.id)]
        audited = [line.action for line in makers.audit_entries(payment.id)]
        assert [action for action in audited if action in TRANSITION_ACTIONS] == steps
        assert audited.count(audit.AuditAction.PAYMENT_UPDATE) == self.edits[payment.id]
        changes = {events.EventType.PAYMENT_CREATED, events.EventType.PAYMENT_UPDATED}
        versions = [event.data["version"] for event in published if event.type in changes]
        assert versions == list(range(1, payment.version + 1))
        ended = [event.type for event in published if event.type not in changes]
        assert ended == [ENDED[status] for status in [payment.status] if status in ENDED]

    def lists_are_complete(self) -> None:
        for person in self.people.values():
            own = {str(payment.id) for payment in Payment.select() if person.lists(payment)}
            listed = person.visitor.get("/payments?limit=100").json["data"]["items"]
            assert {payment["id"] for payment in listed} == own


def silent(payment: Payment) -> bool:
    """Whether the PSP has the order and will never report its outcome."""
    return psp_ledger.find_scenario(str(payment.id)) == "blackout"


def waiting(*prefixes: str) -> list[JobRow]:
    """The waiting jobs whose names begin so."""
    conditions = [JobRow.name.startswith(prefix) for prefix in prefixes]
    return list(JobRow.select().where(reduce(or_, conditions)).order_by(JobRow.position))


def run_inquiries(_seconds: float) -> None:
    """A request that waits for an inquiry runs the job of the psp worker."""
    for job in waiting(payment_jobs.inquire.name):
        payment_jobs.inquire.perform(job.id)


@pytest.fixture
def people(client, monkeypatch) -> dict[str, Person]:
    monkeypatch.setattr(prefer_wait, "time", SimpleNamespace(monotonic=time.monotonic, sleep=run_inquiries))
    roles = [Role.CUSTOMER, Role.CUSTOMER, Role.VENDOR, Role.VENDOR, Role.ADMIN]
    made = {
        name: Person(role, makers.visitor(client, role)) for name, role in zip(EVERYBODY, roles, strict=True)
    }
    makers.work()
    makers.verify_email(made["customer 1"].visitor)
    return made


def test_random_operations_never_break_the_payment_rules(people):
    Machine.people = people
    statuses = {(type, status) for (type, _before, _step), status in TRANSITIONS.items()}
    # Every change of this file changes what a seed generates: if the usual rounds miss a status, more follow.
    for round_number in range(MAX_ROUNDS):
        if round_number >= ROUNDS and Machine.reached == statuses:
            break
        run_state_machine_as_test(
            seed(round_number)(Machine),
            settings=settings(
                max_examples=EXAMPLES_PER_ROUND,
                stateful_step_count=30,
                deadline=None,
                database=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert Machine.reached == statuses
