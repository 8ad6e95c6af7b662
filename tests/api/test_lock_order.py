"""One order of locks (decision 20): whatever is done at once to one account, or to one request and its payment,
nobody waits crosswise. On committed data, each in a thread and on a connection of its own.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from itertools import combinations_with_replacement
from random import Random
from typing import Any
from uuid import UUID, uuid4

import peewee
import pytest
from falcon.testing import Result, TestClient

from actors import (
    account_erasure,
    audit,
    housekeeping,
    jobs,
    mail_sender,
    payment_endings,
    payment_jobs,
    payment_reconciliation,
)
from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.psp.provider import Outcome
from actors.settings import MailSettings
from api.app import create_app
from db import (
    audit_log,
    job_journal,
    one_time_tokens,
    payments,
    personal_data,
    postgres,
    psp_attempts,
    sessions,
    users,
)
from db.core import request_context, times
from db.core.errors import DomainError
from db.one_time_tokens import Purpose
from db.psp_attempts import PspOperation
from db.states import PaymentStatus
from db.users import Role
from tests import makers
from tests.makers import PASSWORD, SECRETS, Visitor, visitor
from workers.dev.servers import Postgres

# How often all pairs are run, and how long a statement may be held back: so that they meet at other points.
ROUNDS, HOLD_S = 1, 0.002


@pytest.fixture
def door(stores, settings, monkeypatch) -> Iterator[TestClient]:
    provider.choose(makers.stub())
    mail_sender.configure(MailSettings.read({**SECRETS, **stores}), transport=makers.mailbox)
    request_context.bind(request_context.EMPTY)
    random = Random(9)
    execute = postgres.database.execute_sql

    def held_back(*args: Any, **more: Any) -> Any:
        time.sleep(random.random() * HOLD_S)
        return execute(*args, **more)

    monkeypatch.setattr(postgres.database, "execute_sql", held_back)
    yield TestClient(create_app(settings))
    makers.wipe()


@contextmanager
def no_deadlock(server: Postgres) -> Iterator[None]:
    """PostgreSQL itself says when it had to end one."""
    before = server.log.stat().st_size
    yield
    assert "deadlock detected" not in server.log.read_text(errors="replace")[before:]


class Crowd:
    """Four threads that do two operations, each of them twice, at the same moment."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads

    def at_once(self, names: tuple[str, str], *works: Callable[[], object]) -> None:
        begin = threading.Barrier(len(works))

        def do(work: Callable[[], object]) -> object:
            with postgres.connection():
                begin.wait(20)
                try:
                    return work()
                except DomainError:
                    return None

        for done in [self.threads.submit(do, work) for work in works]:
            try:
                answer = done.result(30)
            except peewee.OperationalError as error:
                pytest.fail(f"{names}: {error}")
            if isinstance(answer, Result):
                assert answer.status_code < 500, (names, answer.text)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with ThreadPoolExecutor(4) as threads:
        yield Crowd(threads)


def work_off(*prefixes: str) -> None:
    """Does the waiting jobs of these names, as a worker does it."""
    rows = list(job_journal.JobRow.select().order_by(job_journal.JobRow.position))
    for row in rows:
        if row.name.startswith(prefixes):
            jobs.registry[row.name].perform(row.id)


class Account:
    """One account with two sessions and two mailed links, and a second administrator to do things to it."""

    def __init__(self, door: TestClient, bosses: list[Visitor], random: Random) -> None:
        self.bosses, self.random, self.door = bosses, random, door
        first = visitor(door)
        self.email, self.id = str(first.user["email"]), UUID(first.user["id"])
        sign_in = self.sign_in(0).json["data"]
        second = Visitor(door, sign_in["accessToken"], sign_in["refreshToken"], first.user)
        self.people = [first, second]
        self.tokens = [str(uuid4()) for _ in range(4)]
        for token, purpose in zip(self.tokens, 2 * list(Purpose), strict=True):
            one_time_tokens.add(
                uuid4(),
                self.id,
                purpose,
                token=token,
                email=self.email,
                due_at=times.now(),
                expires_at=times.now().replace(year=9999),
            )

    def sign_in(self, _n: int) -> Result:
        return self.door.simulate_post("/api/auth/login", json={"email": self.email, "password": PASSWORD})

    def refresh(self, n: int) -> Result:
        body = {"refreshToken": self.people[n].refresh_token}
        return self.door.simulate_post("/api/auth/refresh", json=body)

    def sign_out(self, n: int) -> Result:
        return self.people[n].post("/auth/logout", {})

    def sign_out_with_the_other(self, n: int) -> Result:
        return self.people[n].post("/auth/logout", {"refreshToken": self.people[1 - n].refresh_token})

    def sign_out_everywhere(self, n: int) -> Result:
        return self.people[n].post("/auth/logout", {"everywhere": True})

    def end_a_session(self, n: int) -> Result:
        sessions = self.people[n].get("/auth/sessions")
        if sessions.status_code != 200 or not sessions.json["data"]["items"]:
            return sessions
        id = self.random.choice(sessions.json["data"]["items"])["id"]
        return self.people[n].send("DELETE", f"/auth/sessions/{id}")

    def change_password(self, n: int) -> Result:
        body = {"currentPassword": PASSWORD, "newPassword": f"{PASSWORD} {n}"}
        return self.people[n].send("PUT", "/auth/password", body)

    def reset_password(self, n: int) -> Result:
        token = self.tokens[1::2][n]
        body = {"token": token, "newPassword": f"{PASSWORD} again"}
        return self.door.simulate_post("/api/auth/reset-password", json=body)

    def verify(self, n: int) -> Result:
        return self.door.simulate_get("/api/auth/verify-email", params={"token": self.tokens[0::2][n]})

    def change_profile(self, n: int) -> Result:
        return self.people[n].send("PUT", "/profile", {"name": f"Name {n}", "bio": f"Bio {n}"})

    def change_preferences(self, n: int) -> Result:
        return self.people[n].send("PUT", "/profile/preferences", {"theme": "dark"})

    def rename(self, n: int) -> Result:
        body = {"email": makers.address(), "emailVerified": bool(n)}
        return self.bosses[n].send("PUT", f"/admin/users/{self.id}", body)

    def change_role(self, n: int) -> Result:
        role = self.random.choice(list(Role))
        return self.bosses[n].send("PUT", f"/admin/users/{self.id}/role", {"role": role})

    def suspend(self, n: int) -> Result:
        return self.bosses[n].send("PUT", f"/admin/users/{self.id}", {"active": bool(n)})

    def end_their_sessions(self, n: int) -> Result:
        return self.bosses[n].send("DELETE", f"/admin/users/{self.id}/sessions")

    def close(self, n: int) -> Result:
        closed = self.bosses[n].send("DELETE", f"/admin/users/{self.id}")
        for _ in range(3):
            work_off("erasure.")
        return closed

    def pay(self, n: int) -> Result:
        return self.people[n].post("/payments", {"type": "payment", "amount": 1})

    def ask_them(self, _n: int) -> object:
        return makers.request(customer_email=self.email)

    def write_audit_rows(self, _n: int) -> None:
        with transaction():
            for _ in range(3):
                audit.record(audit.AuditAction.SIGN_IN_FAILED, user_id=self.id)
        work_off("audit.", "events.")

    def clean_up(self, _n: int) -> None:
        # The first of their sessions is at its end.
        expired = sessions.RefreshToken.update(expires_at=times.now()).where(
            sessions.RefreshToken.user_id == self.id
        )
        with postgres.database.atomic():
            ids = (
                sessions.Session.select()
                .where(sessions.Session.user_id == self.id)
                .order_by(sessions.Session.id)
            )
            if list(ids.for_update(postgres.NO_KEY_UPDATE)):
                expired.execute()
        with transaction():
            enqueue(housekeeping.expire_refresh_tokens.job())
            enqueue(housekeeping.expire_one_time_tokens.job())
        work_off("housekeeping.", "addressees.", "mail.ask")


ON_AN_ACCOUNT = [
    Account.sign_in,
    Account.refresh,
    Account.sign_out,
    Account.sign_out_with_the_other,
    Account.sign_out_everywhere,
    Account.end_a_session,
    Account.change_password,
    Account.reset_password,
    Account.verify,
    Account.change_profile,
    Account.change_preferences,
    Account.rename,
    Account.change_role,
    Account.suspend,
    Account.end_their_sessions,
    Account.close,
    Account.pay,
    Account.ask_them,
    Account.write_audit_rows,
    Account.clean_up,
]


def test_whatever_is_done_at_once_to_one_account_nobody_waits_crosswise(door, crowd, postgres_server):
    random = Random(5)
    with postgres.connection():
        bosses = [visitor(door, Role.ADMIN) for _ in range(2)]
    with no_deadlock(postgres_server):
        for _ in range(ROUNDS):
            for one, other in combinations_with_replacement(ON_AN_ACCOUNT, 2):
                with postgres.connection():
                    account = Account(door, bosses, random)
                names = one.__name__, other.__name__
                works = [partial(do, account, n) for n in (0, 1) for do in (one, other)]
                crowd.at_once(names, *works)


class Asked:
    """One request, the payment against it that is with the PSP, and who does things to both."""

    def __init__(self, people: dict[Role, Visitor], random: Random) -> None:
        self.people, self.random = people, random
        vendor = users.get(UUID(people[Role.VENDOR].user["id"]))
        customer = users.get(UUID(people[Role.CUSTOMER].user["id"]))
        assert vendor is not None
        assert customer is not None
        self.request = makers.request(vendor, customer_email=random.choice([None, customer.email]))
        work_off("payments.begin")
        self.payment = payments.add(
            user_id=customer.id,
            payee_id=vendor.id,
            type="payment",
            status="pending",
            amount=self.request.amount,
            currency="USD",
            request_id=self.request.id,
        )
        self.open = random.random() < 0.3
        if self.open:
            payments.set_status(self.payment, PaymentStatus.CANCELLED)
        else:
            payments.set_status(self.payment, PaymentStatus.PROCESSING)
            payments.set_status(makers.reload(self.request), PaymentStatus.PROCESSING)

    def either(self) -> UUID:
        return UUID(str(self.random.choice([self.request.id, self.payment.id])))

    def _do(self, task: job_journal.Job) -> None:
        with transaction():
            enqueue(task)
        jobs.registry[task.name].perform(task.id)

    def pay(self, _n: int) -> Result:
        body = {"type": "payment", "requestId": str(self.request.id)}
        return self.people[Role.CUSTOMER].post("/payments", body)

    def edit(self, n: int) -> Result:
        address = self.random.choice([None, self.people[Role.CUSTOMER].user["email"], makers.address()])
        body = {"description": f"{n}", "customerEmail": address}
        return self.people[Role.VENDOR].send("PUT", f"/payments/{self.request.id}", body)

    def annotate(self, n: int) -> Result:
        return self.people[Role.ADMIN].send("PUT", f"/payments/{self.either()}", {"description": f"{n}"})

    def cancel(self, _n: int) -> Result:
        result = self.people[Role.ADMIN].send("DELETE", f"/payments/{self.either()}")
        work_off("payments.cancel")
        return result

    def fail(self, _n: int) -> None:
        self._do(payment_endings.fail.job(self.payment.id, None, request_context.EMPTY))

    def settle(self, _n: int) -> None:
        self._do(payment_jobs.settle.job(self.payment.id, Outcome.CHARGED, None, Decimal("80.00"), "USD"))

    def decline(self, _n: int) -> None:
        self._do(payment_jobs.settle.job(self.payment.id, Outcome.DECLINED, "expired_card", None, None))

    def ask_the_psp(self, _n: int) -> None:
        psp_attempts.begin(uuid4(), self.payment.id, PspOperation.FIND, str(self.payment.id))

    def expire(self, _n: int) -> None:
        payments.Payment.update(created_at=times.now().replace(year=2020)).where(
            payments.Payment.id == self.request.id
        ).execute()
        self._do(payment_endings.expire_requests.job())

    def reconcile(self, _n: int) -> None:
        self._do(payment_reconciliation.reconcile.job())

    def erase(self, _n: int) -> None:
        customer = self.people[Role.CUSTOMER].user
        free, closed = [customer["email"]], account_erasure.address(customer["id"])
        with transaction():
            personal_data.erase_from_requests(UUID(customer["id"]), free, closed=closed, limit=9)
        with transaction():
            personal_data.erase_from_events_naming(free, closed=closed, limit=9)

    def bind(self, _n: int) -> None:
        customer = self.people[Role.CUSTOMER].user
        with transaction():
            payments.bind_addressee(customer["email"], UUID(customer["id"]), limit=9)

    def publish(self, _n: int) -> None:
        work_off("events.", "audit.")


ON_A_REQUEST = [
    Asked.pay,
    Asked.edit,
    Asked.annotate,
    Asked.cancel,
    Asked.fail,
    Asked.settle,
    Asked.decline,
    Asked.ask_the_psp,
    Asked.expire,
    Asked.reconcile,
    Asked.erase,
    Asked.bind,
    Asked.publish,
]


def test_whatever_is_done_at_once_to_a_request_and_its_payment_nobody_waits_crosswise(
    door, crowd, postgres_server
):
    random = Random(5)
    with postgres.connection():
        people = {role: visitor(door, role) for role in Role}
    with no_deadlock(postgres_server):
        for _ in range(ROUNDS):
            for one, other in combinations_with_replacement(ON_A_REQUEST, 2):
                with postgres.connection():
                    asked = Asked(people, random)
                names = one.__name__, other.__name__
                works = [partial(do, asked, n) for n in (0, 1) for do in (one, other)]
                crowd.at_once(names, *works)


def test_a_locked_row_of_one_user_holds_up_no_audit_row_and_no_payment_of_another(door, crowd):
    with postgres.connection():
        stuck, other = makers.user(), makers.user()
        theirs, others = makers.payment(stuck), makers.payment(other)
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connection(), postgres.database.atomic():
            postgres.rows("SELECT FROM auth.users WHERE id = %s FOR UPDATE", stuck.id)
            locked.set()
            assert done.wait(60)

    holder = crowd.threads.submit(hold)
    assert locked.wait(20)
    try:
        with postgres.connection():
            with transaction():
                for who in (stuck, other):
                    audit.record(audit.AuditAction.SIGN_IN_FAILED, resource=("user", who.id), user_id=who.id)
            makers.work()
            assert [row.user_id for row in audit_log.of_resource(other.id)] == [other.id]
            assert {makers.reload(it).status for it in (theirs, others)} == {"completed"}
    finally:
        done.set()
        holder.result(20)
