"""No deadlock: all pairs of operations on one account, or on one request with its payment, at the same time.

Runs on committed data, each operation in a thread and on a connection of its own. The order of locks that
prevents deadlocks is decision 20.
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
from actors.psp.provider import Answer, Outcome
from actors.settings import MailSettings
from api.app import create_app
from db import (
    job_journal,
    one_time_tokens,
    payments,
    personal_data,
    postgres,
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
from tests.tables import JobRow
from workers.dev.servers import Postgres

# The longest random delay before a statement, in seconds: operations meet at different statements.
MAX_DELAY_S = 0.001


@pytest.fixture
def app(stores, settings, monkeypatch) -> Iterator[TestClient]:
    """Returns a client of an application whose statements are delayed, except those of the main thread."""
    provider.choose(makers.stub())
    mail_sender.configure(MailSettings.read({**SECRETS, **stores}), transport=makers.mailbox)
    request_context.bind(request_context.EMPTY)
    random = Random(9)
    execute = postgres.database.execute_sql

    def delayed(*args: Any, **more: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(random.random() * MAX_DELAY_S)
        return execute(*args, **more)

    monkeypatch.setattr(postgres.database, "execute_sql", delayed)
    yield TestClient(create_app(settings))
    makers.wipe()


@contextmanager
def no_deadlock(server: Postgres) -> Iterator[None]:
    """Fails if PostgreSQL logs that it ended a deadlock."""
    before = server.log.stat().st_size
    yield
    assert "deadlock detected" not in server.log.read_text(errors="replace")[before:]


class Threads:
    """Four threads that run two operations, each of them twice, at the same moment."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool

    def run_pair(self, first: Callable[..., object], second: Callable[..., object], subject: object) -> None:
        names = first.__name__, second.__name__
        operations = [partial(operation, subject, n) for n in (0, 1) for operation in (first, second)]
        start = threading.Barrier(len(operations))

        def run(operation: Callable[[], object]) -> object:
            with postgres.connection():
                start.wait(20)
                try:
                    return operation()
                except DomainError:
                    return None

        for future in [self.pool.submit(run, operation) for operation in operations]:
            try:
                result = future.result(30)
            except peewee.OperationalError as error:
                pytest.fail(f"{names}: {error}")
            if isinstance(result, Result):
                assert result.status_code < 500, (names, result.text)


@pytest.fixture
def threads() -> Iterator[Threads]:
    with ThreadPoolExecutor(4) as pool:
        yield Threads(pool)


def forget_jobs() -> None:
    """Deletes the jobs that the previous pair left: a pair runs only those that it enqueues itself."""
    postgres.rows("DELETE FROM journal.jobs")


def run_jobs(*prefixes: str) -> None:
    """Runs the waiting jobs whose names begin so, as a worker does."""
    rows = list(JobRow.select().order_by(JobRow.position))
    for row in rows:
        if row.name.startswith(prefixes):
            jobs.registry[row.name].perform(row.id)


class Account:
    """One account with two sessions and four mailed tokens, and two administrators who change it."""

    def __init__(self, app: TestClient, admins: list[Visitor], random: Random) -> None:
        self.admins, self.random, self.app = admins, random, app
        first = visitor(app)
        self.email, self.id = str(first.user["email"]), UUID(first.user["id"])
        self.sessions = [first, makers.signed_in(app, users.User.get_by_id(self.id))]
        self.tokens = [str(uuid4()) for _ in range(4)]
        expires_at = times.now().replace(year=9999)
        with postgres.database.atomic():
            mailed = (Purpose.VERIFY_EMAIL, Purpose.RESET_PASSWORD)
            for token, purpose in zip(self.tokens, 2 * mailed, strict=True):
                one_time_tokens.add(
                    uuid4(),
                    self.id,
                    purpose,
                    token=token,
                    email=self.email,
                    due_at=times.now(),
                    expires_at=expires_at,
                )

    def sign_in(self, _n: int) -> Result:
        return self.app.simulate_post("/api/auth/login", json={"email": self.email, "password": PASSWORD})

    def refresh(self, n: int) -> Result:
        body = {"refreshToken": self.sessions[n].refresh_token}
        return self.app.simulate_post("/api/auth/refresh", json=body)

    def sign_out(self, n: int) -> Result:
        return self.sessions[n].post("/auth/logout", {})

    def sign_out_with_the_other(self, n: int) -> Result:
        return self.sessions[n].post("/auth/logout", {"refreshToken": self.sessions[1 - n].refresh_token})

    def sign_out_everywhere(self, n: int) -> Result:
        return self.sessions[n].post("/auth/logout", {"everywhere": True})

    def end_a_session(self, n: int) -> Result:
        listed = self.sessions[n].get("/auth/sessions")
        if listed.status_code != 200 or not listed.json["data"]["items"]:
            return listed
        session_id = self.random.choice(listed.json["data"]["items"])["id"]
        return self.sessions[n].send("DELETE", f"/auth/sessions/{session_id}")

    def change_password(self, n: int) -> Result:
        body = {"currentPassword": PASSWORD, "newPassword": f"{PASSWORD} {n}"}
        return self.sessions[n].send("PUT", "/auth/password", body)

    def reset_password(self, n: int) -> Result:
        token = self.tokens[1::2][n]
        body = {"token": token, "newPassword": f"{PASSWORD} again"}
        return self.app.simulate_post("/api/auth/reset-password", json=body)

    def verify(self, n: int) -> Result:
        return self.app.simulate_get("/api/auth/verify-email", params={"token": self.tokens[0::2][n]})

    def change_profile(self, n: int) -> Result:
        return self.sessions[n].send("PUT", "/profile", {"name": f"Name {n}", "bio": f"Bio {n}"})

    def change_preferences(self, n: int) -> Result:
        return self.sessions[n].send("PUT", "/profile/preferences", {"theme": "dark"})

    def change_address(self, n: int) -> Result:
        body = {"email": makers.address(), "emailVerified": bool(n)}
        return self.admins[n].send("PUT", f"/admin/users/{self.id}", body)

    def change_role(self, n: int) -> Result:
        role = self.random.choice(list(Role))
        return self.admins[n].send("PUT", f"/admin/users/{self.id}/role", {"role": role})

    def suspend(self, n: int) -> Result:
        return self.admins[n].send("PUT", f"/admin/users/{self.id}", {"active": bool(n)})

    def end_all_sessions(self, n: int) -> Result:
        return self.admins[n].send("DELETE", f"/admin/users/{self.id}/sessions")

    def close(self, n: int) -> Result:
        closed = self.admins[n].send("DELETE", f"/admin/users/{self.id}")
        for _ in range(3):
            run_jobs("erasure.")
        return closed

    def pay(self, n: int) -> Result:
        return self.sessions[n].post("/payments", {"type": "payment", "amount": 1})

    def request_payment(self, _n: int) -> object:
        return makers.request(customer_email=self.email)

    def write_audit_rows(self, _n: int) -> None:
        with transaction():
            for _ in range(3):
                audit.record(audit.AuditAction.SIGN_IN_FAILED, user_id=self.id)
        run_jobs("records.", "events.")

    def expire(self, _n: int) -> None:
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
        run_jobs("housekeeping.", "addressees.", "mail.ask")


ACCOUNT_OPERATIONS = [
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
    Account.change_address,
    Account.change_role,
    Account.suspend,
    Account.end_all_sessions,
    Account.close,
    Account.pay,
    Account.request_payment,
    Account.write_audit_rows,
    Account.expire,
]


def test_no_two_operations_on_one_account_deadlock(app, threads, postgres_server):
    random = Random(5)
    with postgres.connection():
        admins = [visitor(app, Role.ADMIN) for _ in range(2)]
    with no_deadlock(postgres_server):
        for first, second in combinations_with_replacement(ACCOUNT_OPERATIONS, 2):
            with postgres.connection():
                forget_jobs()
                account = Account(app, admins, random)
            threads.run_pair(first, second, account)


class PaidRequest:
    """One request, a payment against it that is at the PSP (or cancelled), and the users who change both."""

    def __init__(self, users_by_role: dict[Role, Visitor], random: Random) -> None:
        self.users, self.random = users_by_role, random
        vendor = users.get(UUID(users_by_role[Role.VENDOR].user["id"]))
        customer = users.get(UUID(users_by_role[Role.CUSTOMER].user["id"]))
        assert vendor is not None
        assert customer is not None
        self.request = makers.request(vendor, customer_email=random.choice([None, customer.email]))
        run_jobs("payments.begin")
        self.payment = makers.bare_payment(
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
            makers.set_status(self.payment, PaymentStatus.CANCELLED)
        else:
            makers.set_status(self.payment, PaymentStatus.PROCESSING)
            makers.set_status(self.request, PaymentStatus.PROCESSING)

    def request_or_payment(self) -> UUID:
        return UUID(str(self.random.choice([self.request.id, self.payment.id])))

    def _run(self, job: job_journal.Job) -> None:
        with transaction():
            enqueue(job)
        jobs.registry[job.name].perform(job.id)

    def pay(self, _n: int) -> Result:
        body = {"type": "payment", "requestId": str(self.request.id)}
        return self.users[Role.CUSTOMER].post("/payments", body)

    def edit(self, n: int) -> Result:
        address = self.random.choice([None, self.users[Role.CUSTOMER].user["email"], makers.address()])
        body = {"description": f"{n}", "customerEmail": address}
        return self.users[Role.VENDOR].send("PUT", f"/payments/{self.request.id}", body)

    def edit_as_admin(self, n: int) -> Result:
        return self.users[Role.ADMIN].send(
            "PUT", f"/payments/{self.request_or_payment()}", {"description": f"{n}"}
        )

    def cancel(self, _n: int) -> Result:
        result = self.users[Role.ADMIN].send("DELETE", f"/payments/{self.request_or_payment()}")
        run_jobs("payments.cancel")
        return result

    def fail(self, _n: int) -> None:
        self._run(payment_endings.fail.job(self.payment.id, None, request_context.EMPTY))

    def settle(self, _n: int) -> None:
        self._run(makers.settle_job(self.payment, Answer(Outcome.CHARGED, None, Decimal("80.00"), "USD")))

    def decline(self, _n: int) -> None:
        self._run(makers.settle_job(self.payment, Answer(Outcome.DECLINED, "expired_card")))

    def charge(self, _n: int) -> None:
        job = payment_jobs.Charge(payment_id=self.payment.id, customer_id=self.payment.user_id)
        self._run(payment_jobs.charge.job(job).unique(str(self.payment.id)))

    def inquire(self, _n: int) -> None:
        self._run(payment_jobs.inquire_job(self.payment.id))

    def resolve(self, _n: int) -> None:
        self._run(makers.resolve_job(self.payment).unique(str(self.payment.id)))

    def record_an_inquiry(self, _n: int) -> None:
        makers.begin_call(self.payment, PspOperation.FIND)

    def expire(self, _n: int) -> None:
        payments.Payment.update(created_at=times.now().replace(year=2020)).where(
            payments.Payment.id == self.request.id
        ).execute()
        self._run(payment_endings.expire_requests.job())

    def reconcile(self, _n: int) -> None:
        self._run(payment_reconciliation.reconcile.job())

    def erase(self, _n: int) -> None:
        customer = self.users[Role.CUSTOMER].user
        free, closed = [customer["email"]], account_erasure.address(customer["id"])
        with transaction():
            personal_data.erase_from_requests(UUID(customer["id"]), free, closed=closed, limit=9)
        with transaction():
            personal_data.erase_from_events_naming(free, closed=closed, limit=9)

    def bind(self, _n: int) -> None:
        customer = self.users[Role.CUSTOMER].user
        with transaction():
            payments.bind_addressee(customer["email"], UUID(customer["id"]), limit=9)

    def publish(self, _n: int) -> None:
        run_jobs("events.", "records.")


REQUEST_OPERATIONS = [
    PaidRequest.pay,
    PaidRequest.edit,
    PaidRequest.edit_as_admin,
    PaidRequest.cancel,
    PaidRequest.fail,
    PaidRequest.settle,
    PaidRequest.decline,
    PaidRequest.charge,
    PaidRequest.inquire,
    PaidRequest.resolve,
    PaidRequest.record_an_inquiry,
    PaidRequest.expire,
    PaidRequest.reconcile,
    PaidRequest.erase,
    PaidRequest.bind,
    PaidRequest.publish,
]


def test_no_two_operations_on_one_request_deadlock(app, threads, postgres_server):
    random = Random(5)
    with postgres.connection():
        users_by_role = {role: visitor(app, role) for role in Role}
    with no_deadlock(postgres_server):
        for first, second in combinations_with_replacement(REQUEST_OPERATIONS, 2):
            with postgres.connection():
                forget_jobs()
                request = PaidRequest(users_by_role, random)
            threads.run_pair(first, second, request)


def test_a_locked_user_delays_no_audit_row_or_payment_of_another(app, threads):
    with postgres.connection():
        stuck, other = makers.user(), makers.user()
        theirs, others = makers.payment(stuck), makers.payment(other)
    locked, finished = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connection(), postgres.database.atomic():
            postgres.rows("SELECT FROM auth.users WHERE id = %s FOR UPDATE", stuck.id)
            locked.set()
            assert finished.wait(60)

    holder = threads.pool.submit(hold)
    assert locked.wait(20)
    try:
        with postgres.connection():
            with transaction():
                for user in (stuck, other):
                    audit.record(
                        audit.AuditAction.SIGN_IN_FAILED, resource=("user", user.id), user_id=user.id
                    )
            makers.work()
            assert [row.user_id for row in makers.audit_entries(other.id)] == [other.id]
            assert {makers.reload(it).status for it in (theirs, others)} == {"completed"}
    finally:
        finished.set()
        holder.result(20)
