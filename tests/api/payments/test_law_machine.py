"""The law, walked at random: anybody does anything, in any order, and what must hold holds after every step."""

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
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from actors import audit, events, jobs, payment_endings, payment_jobs, payment_reconciliation
from actors.jobs import enqueue, transaction
from actors.state_machine import TRANSITIONS, Transition, is_allowed
from api.payments import prefer_wait
from db import audit_log, config, event_log, job_journal, payments, postgres, psp_ledger
from db.payments import Payment
from db.states import TERMINAL, PaymentStatus, PaymentType
from db.users import Role
from tests import makers, payment_rules
from tests.makers import Visitor

ACCEPTED, CREATED, DONE = 202, 201, 200
FORBIDDEN, NOT_FOUND, CONFLICT, CHANGED_SINCE = 403, 404, 409, 412


@dataclass(frozen=True)
class Person:
    """Somebody at the door, and what the contract says they see and may change."""

    role: Role
    visitor: Visitor

    @property
    def id(self) -> UUID:
        return UUID(self.visitor.user["id"])

    @property
    def email(self) -> str:
        return str(self.visitor.user["email"])

    def sees(self, it: Payment) -> bool:
        if self.role is Role.CUSTOMER:
            link = it.type == PaymentType.INITIATE and (
                it.customer_email is None or it.addressee_id == self.id
            )
            return it.user_id == self.id or link
        return self.role is Role.ADMIN or it.payee_id == self.id

    def lists(self, it: Payment) -> bool:
        """A link is for whoever knows it, and in nobody's list."""
        link = self.role is Role.CUSTOMER and it.type == PaymentType.INITIATE and it.customer_email is None
        return self.sees(it) and not link

    def is_kept_from_changing(self, it: Payment) -> int | None:
        """The refusal; None for who may change it, as far as the law lets it be changed."""
        if self.role is Role.CUSTOMER:
            return FORBIDDEN
        if not self.sees(it):
            return NOT_FOUND
        own = it.type == PaymentType.INITIATE and it.user_id == self.id
        return None if own or self.role is Role.ADMIN else FORBIDDEN


def lawful(it: Payment, step: Transition) -> bool:
    return is_allowed(PaymentType(it.type), PaymentStatus(it.status), step)


def payment_of(request: UUID, simulate: str | None = None) -> dict[str, Any]:
    metadata = {"simulate": simulate} if simulate else {}
    return {"type": "payment", "requestId": str(request), "metadata": metadata}


# What each of the actions that an answer allows means at the door.
ATTEMPTS: dict[str, Callable[[Visitor, UUID], Result]] = {
    "pay": lambda who, id: who.post("/payments", payment_of(id)),
    "update": lambda who, id: who.send("PUT", f"/payments/{id}", {"description": "In other words"}),
    "cancel": lambda who, id: who.send("DELETE", f"/payments/{id}"),
    "fail": lambda who, id: who.post(f"/payments/{id}/status", {"status": "failed"}),
}

OF_STEPS = {f"payments.payment.{step}" for step in Transition}
ENDED: dict[str, events.EventType] = {
    PaymentStatus.COMPLETED: events.EventType.PAYMENT_COMPLETED,
    PaymentStatus.FAILED: events.EventType.PAYMENT_FAILED,
}

EVERYBODY = ["customer 1", "customer 2", "vendor 1", "vendor 2", "admin"]
# Customers change nothing, so they try less often.
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
# Which of those that there are, the newest first; of fewer, it begins again.
WHICH = st.integers(0, 9)
# In the journal, from either end: messages come in any order.
PLACES = st.sampled_from([-1, 0, -2, 1, -3, 2])
VERSIONS = st.sampled_from(["any", "this", "older"])


def often(
    times: int, name: str, **arguments: st.SearchStrategy[Any]
) -> list[st.SearchStrategy[tuple[str, dict[str, Any]]]]:
    return [st.tuples(st.just(name), st.fixed_dictionaries(arguments)) for _ in range(times)]


# One rule for all of them: of many, an example would have only some, and of what a payment's life needs
# mostly too few.
STEPS = st.one_of(
    *often(6, "work", place=PLACES),
    *often(1, "work_on_all", newest_first=st.booleans()),
    *often(1, "hear_again", which=WHICH),
    *often(1, "tell"),
    *often(1, "reconcile_later"),
    *often(1, "let_it_expire", request=WHICH),
    *often(1, "ask", who=VENDORS, link=st.booleans()),
    *often(2, "pay", who=CUSTOMERS, simulate=SIMULATED),
    *often(4, "pay_request", who=CUSTOMERS, request=WHICH, simulate=SIMULATED),
    *often(4, "cancel", who=ANYBODY, which=WHICH),
    *often(
        4,
        "set_status",
        who=ANYBODY,
        which=WHICH,
        to=st.sampled_from([*PaymentStatus, *4 * [PaymentStatus.FAILED]]),
    ),
    *often(2, "edit", who=ANYBODY, which=WHICH, change=st.sampled_from(sorted(CHANGES)), version=VERSIONS),
)


class Machine(RuleBasedStateMachine):
    """Two customers, two vendors, an administrator, and workers who take up whatever comes to hand."""

    people: ClassVar[dict[str, Person]]
    reached: ClassVar[set[tuple[str, str]]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.edits: Counter[UUID] = Counter()
        self.known: dict[UUID, tuple[int, str]] = {}
        self.requests: list[UUID] = []
        self.all: list[UUID] = []
        self.done: list[job_journal.JobRow] = []
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

    # --- at the door ------------------------------------------------------------------------------------

    def ask(self, who: str, link: bool) -> None:
        body = {"type": "initiate", "amount": "80.00"}
        if not link:
            body["customerEmail"] = self.people["customer 1"].email
        self.requests.append(self.made(self.people[who].visitor.post("/payments", body)))

    def pay(self, who: str, simulate: str | None) -> None:
        metadata = {"simulate": simulate} if simulate else {}
        body = {"type": "payment", "amount": "12.50", "metadata": metadata}
        self.made(self.people[who].visitor.post("/payments", body))

    def pay_request(self, who: str, request: int, simulate: str | None) -> None:
        it, person = self.one_of(self.requests, request), self.people[who]
        answer = person.visitor.post("/payments", payment_of(it.id, simulate))
        if not person.sees(it):
            assert answer.status_code == NOT_FOUND
        elif it.status != PaymentStatus.INITIATED:
            assert makers.error(answer) == (CONFLICT, "REQUEST_NOT_PAYABLE")
        else:
            self.made(answer)

    def cancel(self, who: str, which: int) -> None:
        it, person = self.one_of(self.all, which), self.people[who]
        answer = person.visitor.send("DELETE", f"/payments/{it.id}")
        allowed = ACCEPTED if lawful(it, Transition.CANCEL) else CONFLICT
        assert answer.status_code == (person.is_kept_from_changing(it) or allowed)

    def set_status(self, who: str, which: int, to: PaymentStatus) -> None:
        it, person = self.one_of(self.all, which), self.people[who]
        answer = person.visitor.post(f"/payments/{it.id}/status", {"status": to, "reason": "Because"})
        expected = person.is_kept_from_changing(it)
        if expected is None and to is PaymentStatus.CANCELLED:
            expected = ACCEPTED if lawful(it, Transition.CANCEL) else CONFLICT
        elif expected is None and person.role is not Role.ADMIN:
            expected = FORBIDDEN
        elif expected is None and to is PaymentStatus.FAILED:
            expected = ACCEPTED if lawful(it, Transition.FAIL) and not silent(it) else CONFLICT
        assert answer.status_code == (expected or CONFLICT)

    def edit(self, who: str, which: int, change: str, version: str) -> None:
        it, person = self.one_of(self.all, which), self.people[who]
        named = {"any": None, "this": it.version, "older": it.version - 1}[version]
        headers = {"If-Match": f'"{named}"'} if named is not None else {}
        answer = person.visitor.send("PUT", f"/payments/{it.id}", CHANGES[change], headers=headers)
        expected = person.is_kept_from_changing(it)
        if expected is None and version == "older":
            expected = CHANGED_SINCE
        elif expected is None and it.status not in TERMINAL:
            words = change in ("words", "metadata")
            open_request = it.type == PaymentType.INITIATE and it.status in (
                PaymentStatus.PENDING,
                PaymentStatus.INITIATED,
            )
            expected = DONE if words or open_request else CONFLICT
        assert answer.status_code == (expected or CONFLICT)
        self.edits[it.id] += answer.status_code == DONE

    def made(self, answer: Result) -> UUID:
        assert answer.status_code == CREATED, answer.text
        assert answer.json["data"]["status"] == "pending"
        self.all.append(UUID(answer.json["data"]["id"]))
        return self.all[-1]

    def one_of(self, ids: list[UUID], which: int) -> Payment:
        found = payments.get(ids[-1 - which % len(ids)])
        assert found is not None
        return found

    # --- behind it --------------------------------------------------------------------------------------

    def work(self, place: int) -> None:
        if tasks := waiting("payments."):
            self.perform(tasks[place % len(tasks)])

    def work_on_all(self, newest_first: bool) -> None:
        for task in sorted(waiting("payments."), key=lambda it: it.position, reverse=newest_first):
            self.perform(task)

    def hear_again(self, which: int) -> None:
        if self.done:
            again = self.done[-1 - which % len(self.done)]
            jobs.registry[again.name].perform(again.id)

    def tell(self) -> None:
        for task in waiting("audit.", "events.", "mail."):
            jobs.registry[task.name].perform(task.id)

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
        postgres.rows(
            "UPDATE payments.payments SET updated_at = updated_at - interval '1 minute',"
            " reconciled_at = reconciled_at - interval '1 minute'"
        )
        postgres.rows(
            "UPDATE payments.psp_attempts SET created_at = created_at - interval '1 minute',"
            " ended_at = ended_at - interval '1 minute'"
        )
        with transaction():
            enqueue(payment_reconciliation.reconcile.job())

    def perform(self, task: job_journal.JobRow) -> None:
        jobs.registry[task.name].perform(task.id)
        left = job_journal.JobRow.get_or_none(job_journal.JobRow.id == task.id)
        assert left is None, f"{task.name}: {left.error}"
        self.done.append(task)

    # --- what holds -------------------------------------------------------------------------------------

    @invariant()
    def the_law_holds(self):
        now = payment_rules.check_all(self.edits)
        self.reached.update((it.type, it.status) for it in now)
        touched = [it for it in now if self.known.get(it.id) != (it.version, it.status)]
        self.known = {it.id: (it.version, it.status) for it in now}
        for it in touched:
            self.turn += 1
            self.is_what_it_says(EVERYBODY[self.turn % len(EVERYBODY)], it)

    def is_what_it_says(self, name: str, it: Payment) -> None:
        """One person looks at it and tries whatever there is: allowed is what the answer said, and only that."""
        person = self.people[name]
        seen = person.visitor.get(f"/payments/{it.id}")
        allowed: list[str] = []
        if person.sees(it):
            shown = seen.json["data"]
            assert (shown["status"], seen.headers["ETag"]) == (it.status, f'"{it.version}"')
            allowed = shown["allowedActions"]
        else:
            assert seen.status_code == NOT_FOUND
        for action, attempt in ATTEMPTS.items():
            with postgres.database.atomic() as savepoint:
                answer = attempt(person.visitor, it.id)
                # Whether it can be failed the PSP alone knows, and it does not say.
                unknown = action == "fail" and silent(it)
                savepoint.rollback()
            done = answer.status_code < 300
            assert done == (action in allowed and not unknown), (
                f"{name} finds {it.type} {it.status} with {allowed}, and {action} answers {answer.text}"
            )

    def teardown(self) -> None:
        with self.example:
            makers.work()
            assert job_journal.JobRow.select().count() == 0
            told = event_log.after(0, 10_000)
            for it in payment_rules.check_all(self.edits):
                self.is_at_rest(it)
                self.was_told_of(it, [event for event in told if event.data.get("id") == str(it.id)])
            self.everybody_has_their_own_set()

    def is_at_rest(self, it: Payment) -> None:
        assert it.status != PaymentStatus.PENDING
        if it.type == PaymentType.PAYMENT and it.status == PaymentStatus.PROCESSING:
            assert silent(it)
            assert makers.review(it)

    def was_told_of(self, it: Payment, told: Sequence[event_log.Event]) -> None:
        """Every change has its audit row and its event, in the order in which they happened."""
        steps = [f"payments.payment.{row.transaction_type}" for row in payments.history(it.id)]
        noted = [line.action for line in audit_log.of_resource(it.id)]
        assert [action for action in noted if action in OF_STEPS] == steps
        assert noted.count(audit.AuditAction.PAYMENT_UPDATE) == self.edits[it.id]
        changes = {events.EventType.PAYMENT_CREATED, events.EventType.PAYMENT_UPDATED}
        versions = [event.data["version"] for event in told if event.type in changes]
        assert versions == list(range(1, it.version + 1))
        ended = [event.type for event in told if event.type not in changes]
        assert ended == [ENDED[status] for status in [it.status] if status in ENDED]

    def everybody_has_their_own_set(self) -> None:
        for person in self.people.values():
            own = {str(it.id) for it in Payment.select() if person.lists(it)}
            listed = person.visitor.get("/payments?limit=100").json["data"]["items"]
            assert {it["id"] for it in listed} == own


def silent(it: Payment) -> bool:
    """Whether the PSP was asked for the money and will never say what became of it."""
    return psp_ledger.find_scenario(str(it.id)) == "blackout"


def waiting(*verbs: str) -> list[job_journal.JobRow]:
    """What is promised by verbs with such a beginning."""
    beginnings = [job_journal.JobRow.name.startswith(beginning) for beginning in verbs]
    return list(
        job_journal.JobRow.select().where(reduce(or_, beginnings)).order_by(job_journal.JobRow.position)
    )


def look_instead(_seconds: float) -> None:
    """Who waits at the door for what the PSP knows does the psp worker's work."""
    for task in waiting(payment_jobs.inquire.name):
        payment_jobs.inquire.perform(task.id)


@pytest.fixture
def people(client, monkeypatch) -> dict[str, Person]:
    monkeypatch.setattr(prefer_wait, "time", SimpleNamespace(monotonic=time.monotonic, sleep=look_instead))
    roles = [Role.CUSTOMER, Role.CUSTOMER, Role.VENDOR, Role.VENDOR, Role.ADMIN]
    made = {
        name: Person(role, makers.visitor(client, role)) for name, role in zip(EVERYBODY, roles, strict=True)
    }
    makers.work()
    makers.verify_email(made["customer 1"].visitor)
    return made


def test_whatever_anybody_does_in_whatever_order_no_payment_leaves_the_law(people):
    Machine.people = people
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=18,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.reached == {(type, status) for (type, _before, _step), status in TRANSITIONS.items()}
