"""Factories for tests: users, payments, requests, signed-in API clients; and the jobs done in this thread."""

import email
import email.policy
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.message import EmailMessage
from functools import cache
from hashlib import sha256
from inspect import getsource
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID, uuid4

import pytest
from falcon.testing import Result, TestClient
from peewee import SQL

from actors import broker, jobs, payment_jobs, request_addressees, snapshots, subscriber
from actors.event_handlers import SUBSCRIBERS
from actors.jobs import transaction
from actors.mail_sender import OutgoingMail
from actors.psp.provider import Answer
from actors.psp.resolution import MAX_CHARGE_CALLS
from actors.psp.stub import Stub
from api.auth.sign_in import MAX_SESSIONS_PER_ACCOUNT
from api.security.keys import Keys
from api.security.passwords import Passwords
from api.security.tokens import REFRESH_LIFETIME, Tokens
from api.settings import WebSettings
from db import (
    audit_log,
    job_journal,
    payments,
    postgres,
    psp_attempts,
    reviews,
    sessions,
    users,
)
from db.core import times
from db.one_time_tokens import fingerprint
from db.payments import Payment
from db.psp_attempts import PspOperation
from db.users import Role, User
from tests.node import CACHE
from tests.tables import EventPublication
from workers import scheduler
from workers.dev.servers import Postgres

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=postgres.Model)

# Every job by its name.
JOBS = jobs.load_all()

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery"
SECRETS = {
    "APP_ENV": "test",
    "JWT_SECRET": "a secret for tests, thirty-two bytes long",
    "PASSWORD_PEPPER": "a pepper for tests",
    "BCRYPT_ROUNDS": "4",
    # Off: all tests come from one address.
    "RATE_LIMIT_API": "",
    "RATE_LIMIT_AUTH": "",
    "RATE_LIMIT_CONSOLE": "",
}


class DisposablePostgres(Postgres):
    """PostgreSQL that survives a killed process but not a power cut: its writes do not wait for the disk."""

    options = f"{Postgres.options} -c fsync=off -c full_page_writes=off"

    def _create(self, folder: Path, owner: int, run_as: list[str]) -> None:
        """Copies a cluster that was created once for this user, in half the time."""
        program = (folder / "postgres").stat()
        version = os.fspath(folder), program.st_size, program.st_mtime_ns
        kind = sha256(repr((getsource(Postgres), self.password, run_as, version)).encode()).hexdigest()
        made = CACHE / f"postgres-{kind[:16]}"
        try:
            CACHE.mkdir(parents=True, exist_ok=True)
            lock = made.with_suffix(".lock").open("w")
        except OSError:  # A home that cannot be written to.
            super()._create(folder, owner, run_as)
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                super()._create(folder, owner, run_as)
                fresh = made.with_suffix(".new")
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.copytree(self.directory, fresh)
                fresh.rename(made)
                return
        shutil.copytree(made, self.directory)


class Mailbox(list[EmailMessage]):
    """A mail transport that keeps the mails of a test."""

    def send(self, mail: OutgoingMail) -> None:
        sent = email.message_from_bytes(mail.content, policy=email.policy.default)
        assert isinstance(sent, EmailMessage)
        assert [part.defects for part in sent.walk()] == [[], [], []]
        self.append(sent)

    def token(self) -> str:
        """Returns the token of the link in the last mail."""
        return token_of(self[-1])


def token_of(mail: EmailMessage) -> str:
    """Returns the token of the link in a mail."""
    [token] = re.findall(r"token=([\w-]+)", text_of(mail))
    return str(token)


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    """Returns the text of a mail."""
    body = mail.get_body((kind,))
    return str(body.get_content()) if body else ""


mailbox = Mailbox()


def wipe() -> None:
    """Deletes all committed rows, except those that the migrations inserted.

    In the role of a replica, which needs a superuser: no triggers run, and foreign keys are not checked.
    """
    with postgres.connection(), postgres.database.atomic():
        tables = postgres.rows(
            "SELECT format('%%I.%%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('public', 'pg_catalog', 'information_schema')"
            " AND tablename NOT IN ('audit_seal', 'health_check', 'subscriptions', 'event_publication')"
        )
        postgres.rows("SET LOCAL session_replication_role = replica")
        postgres.rows(";".join(f"DELETE FROM {table['name']}" for table in tables))
        postgres.rows("UPDATE admin.audit_seal SET seq = 0, hash = decode(repeat('00', 32), 'hex')")
        EventPublication.update(seq=0, expires_at=SQL("'-infinity'")).execute()
        skip_old_events()


def stub(sleep: Callable[[float], None] = lambda _seconds: None) -> Stub:
    """The PSP stub, without its delays."""
    return Stub(payment_jobs.receive_notice, sleep=sleep)


def until(condition: Callable[[], T | None], seconds: float = 60) -> T:
    """Waits until the condition returns something true, and returns it.

    Asks less and less often: what takes seconds would otherwise be asked a hundred times, by a machine at work.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} s"
        time.sleep(min(max(0.01, waited / 10), 0.25))
    return found


def address() -> str:
    """A new e-mail address."""
    return f"{uuid4().hex[:12]}@example.com"


@contextmanager
def triggers_disabled() -> Iterator[None]:
    """Lets the block write rows that the triggers would refuse, such as a payment in any status.

    Needs a superuser, as `wipe` does.
    """
    with postgres.database.atomic():
        postgres.rows("SET LOCAL session_replication_role = replica")
        yield
        postgres.rows("SET LOCAL session_replication_role = origin")


def payment_row(**columns: Any) -> Payment:
    """A payment or request with these columns, in any status."""
    with triggers_disabled():
        return bare_payment(**columns)


def bare_payment(**columns: Any) -> Payment:
    """A payment or request with these columns, without history and jobs."""
    return inserted(Payment, **columns)


def inserted(model: type[ModelT], **columns: Any) -> ModelT:
    """A new row with these columns, and the defaults of all others.

    Its statement is written once for all rows of the same columns, which peewee would write for each.
    """
    values = [postgres.Json(value) if isinstance(value, dict) else value for value in columns.values()]
    row = postgres.first(model, _insert(model, tuple(columns)), *values)
    assert row is not None
    return row


@cache
def _insert(model: Any, columns: tuple[str, ...]) -> str:
    every, places = ", ".join(model._meta.columns), ", ".join(["%s"] * len(columns))
    table = f"{model._meta.schema}.{model._meta.table_name}"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) RETURNING {every}"


def set_status(payment: Payment, status: str) -> None:
    """Changes the status and nothing else: no history, audit entry or event follows."""
    postgres.rows("UPDATE payments.payments SET status = %s WHERE id = %s", status, payment.id)


def user(role: Role = Role.CUSTOMER, **more: Any) -> User:
    """A user without a usable password."""
    return inserted(User, email=address(), password_hash="none", name="Some One", role=role, **more)


def payment(customer: User | None = None, *, amount: str = "12.50", **metadata: Any) -> Payment:
    """A new payment of a customer: pending, with its first job enqueued."""
    with transaction():
        return payment_jobs.create_payment(
            customer_id=(customer or user()).id, amount=Decimal(amount), currency="USD", metadata=metadata
        )


def request(vendor: User | None = None, *, customer_email: str | None = None) -> Payment:
    """A new payment request of a vendor."""
    with transaction():
        return payment_jobs.create_request(
            vendor_id=(vendor or user(Role.VENDOR)).id,
            amount=Decimal("80.00"),
            currency="USD",
            description="Two chairs",
            customer_email=customer_email,
        )


def open_request(vendor: User | None = None, *, customer_email: str | None = None) -> Payment:
    """A payment request that can be paid."""
    made = request(vendor, customer_email=customer_email)
    assert work() == ["payments.begin"]
    return reload(made)


def pay(request: Payment, **metadata: Any) -> Payment:
    """A new payment of some customer against a request. Raises DomainError."""
    customer = user()
    with transaction():
        return payment_jobs.pay_request(
            request.id, customer_id=customer.id, description=None, metadata=metadata
        )


def settle_job(payment: Payment, answer: Answer) -> job_journal.Job:
    """A job that settles a decision about the payment, which no call or notice has brought."""
    return payment_jobs.settle.job(payment_jobs.Decision(payment_id=payment.id, answer=answer))


def resolve_job(payment: Payment) -> job_journal.Job:
    """A job that decides what follows the calls about the payment so far."""
    return payment_jobs.resolve.job(payment_jobs.PaymentEntry(payment_id=payment.id))


def begin_call(payment: Payment, operation: PspOperation, id: UUID | None = None) -> bool:
    """Records a call of the PSP as a worker does before it makes the call; returns whether it may be made."""
    calls = {id or uuid4(): payment.id}
    return bool(psp_attempts.begin(calls, operation, max_charges=MAX_CHARGE_CALLS))


def reload(payment: Payment) -> Payment:
    """The same payment, read again."""
    found = payments.get(payment.id)
    assert found is not None
    return found


def review(payment: Payment) -> str | None:
    """The reasons of the payment's open reviews; None if there are none."""
    reasons = [review.reason for review in reviews.for_payment(payment.id) if review.resolved_at is None]
    return "; ".join(reasons) or None


def work(*, also: str = "") -> list[str]:
    """Does all jobs in this thread, in order, and delivers all events; returns the names of the jobs done.

    Leaves out the names of jobs that only report (records.*, events.*, mail.*), unless they begin with `also`.
    No job sends a message about those that follow: no worker would read it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "try_push", lambda _jobs: None)
        return _work(also)


def _work(also: str) -> list[str]:
    done = []
    job = first_job()
    # Events last: their subscribers enqueue further jobs.
    while job or deliver_events():
        if job is None:
            job = first_job()
            continue
        JOBS[job.name].perform(job.id)
        # In one statement, whose row is empty but for the error when no other job waits.
        [found] = postgres.rows(_LEFT_AND_NEXT, job.id)
        assert not found["left"], f"{job.name} was not done: {found['error']}"
        if not job.name.startswith(("records.", "events.", "mail.")) or (also and job.name.startswith(also)):
            done.append(job.name)
        job = WaitingJob(found["id"], found["name"]) if found["id"] else None
    return done


def enqueue_scheduled(job: jobs.TransactionalJob[[]]) -> None:
    """Enqueues a periodic job, as the scheduler does."""
    assert _leader.check()
    assert scheduler.enqueue_scheduled(job, _leader)


_leader = scheduler.Leader()


def deliver_events() -> bool:
    """Lets our own subscribers handle the new events; returns whether there were any."""
    delivered = subscriber.once(SUBSCRIBERS)
    failed = postgres.rows("SELECT name, error FROM admin.subscriptions WHERE error IS NOT NULL")
    assert not failed, failed
    return delivered


# Sent before every test; the ORM would take longer to write it than the server to run it.
SKIP_OLD_EVENTS = (
    "UPDATE admin.subscriptions SET seq = (SELECT coalesce(max(seq), 0) FROM admin.events),"
    " attempts = 0, error = NULL, due_at = clock_timestamp()"
)


def skip_old_events() -> None:
    """Moves all cursors to the end of the event log, past the events of other tests."""
    postgres.rows(SKIP_OLD_EVENTS)


class WaitingJob(NamedTuple):
    id: UUID
    name: str


_FIRST = "SELECT id, name FROM journal.jobs WHERE dead_at IS NULL ORDER BY position LIMIT 1"
# Whether a job is in the journal still, and its error, and the first job that is not dead.
_LEFT_AND_NEXT = (
    "SELECT done.id IS NOT NULL AS left, done.error, first.id, first.name FROM (SELECT) AS one"
    f" LEFT JOIN (SELECT id, error FROM journal.jobs WHERE id = %s) AS done ON true LEFT JOIN ({_FIRST}) AS first ON true"
)


def first_job() -> WaitingJob | None:
    """Returns the first job that is not dead."""
    return postgres.first(WaitingJob, _FIRST)


@dataclass(frozen=True)
class Visitor:
    """A client of the API, signed in if it has a token."""

    client: TestClient
    token: str = ""
    refresh_token: str = ""
    user: dict[str, Any] = field(default_factory=dict)

    def send(self, method: str, path: str, json: Any = None, **more: Any) -> Result:
        """Sends a request to /api."""
        headers = dict(more.pop("headers", {}))
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if json is not None:
            more["json"] = json
        return self.client.simulate_request(method, f"/api{path}", headers=headers, **more)

    def get(self, path: str, **more: Any) -> Result:
        return self.send("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> Result:
        return self.send("POST", path, json, **more)


def audit_entries(resource_id: UUID) -> list[audit_log.AuditLog]:
    """The audit entries about one resource, oldest first."""
    query = audit_log.AuditLog.select().where(audit_log.AuditLog.resource_id == resource_id)
    return list(query.order_by(audit_log.AuditLog.created_at, audit_log.AuditLog.id))


def visitor(client: TestClient, role: Role = Role.CUSTOMER, *, email: str | None = None) -> Visitor:
    """A signed-in user of this role, made in the database: no job, event or mail follows from it."""
    with postgres.connection(), transaction():
        made = inserted(
            User,
            email=email or address(),
            password_hash=_password_hash(),
            name="Some One",
            role=role,
            email_verified=False,
        )
    return signed_in(client, made)


def signed_in(client: TestClient, user: User, *, at: datetime | None = None) -> Visitor:
    """A user with a new session, made in the database as `visitor` makes one; the token is of that moment."""
    with postgres.connection(), transaction():
        session_id, refresh_token = session(user.id, ip_address="127.0.0.1")
    token = _tokens().access_token(user, session_id, at or times.now())
    return Visitor(client, token, refresh_token, snapshots.user(user))


def session(user_id: UUID, *, ip_address: str | None = None) -> tuple[UUID, str]:
    """The id of a new session, and its refresh token."""
    refresh_token = _tokens().new_refresh_token()
    started = sessions.start(
        user_id,
        ip_address=ip_address,
        user_agent=None,
        token_hash=fingerprint(refresh_token),
        expires_at=times.now() + REFRESH_LIFETIME,
        keep=MAX_SESSIONS_PER_ACCOUNT,
    )
    return started, refresh_token


def registered(client: TestClient, role: Role = Role.CUSTOMER, *, email: str | None = None) -> Visitor:
    """A user who has just registered through the API, with the mail, events and audit entries of it."""
    body = {"email": email or address(), "password": PASSWORD, "name": "Some One"}
    if role is not Role.ADMIN:
        body["role"] = role
    result = client.simulate_post("/api/auth/register", json=body)
    assert result.status_code == 201, result.text
    data = result.json["data"]
    if role is Role.ADMIN:
        User.update(role=role).where(User.id == data["user"]["id"]).execute()
    return Visitor(client, data["accessToken"], data["refreshToken"], data["user"])


@cache
def _tokens() -> Tokens:
    settings = WebSettings.read({**SECRETS, "DATABASE_URL": "postgresql://", "REDIS_URL": "redis://"})
    return Tokens(
        Keys(settings.jwt_secret, settings.jwt_secret_other, ed25519=settings.jwt_ed25519),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        pepper=settings.password_pepper,
        session_max_age=settings.session_max_age,
    )


@cache
def _password_hash() -> str:
    return Passwords(pepper=SECRETS["PASSWORD_PEPPER"], rounds=4).hash(PASSWORD)


def verify_email(visitor: Visitor) -> None:
    """Verifies the visitor's e-mail address, as the mailed link does."""
    with transaction():
        users.change(UUID(visitor.user["id"]), email_verified=True)
        request_addressees.bind_verified(users.User.get_by_id(visitor.user["id"]))
    work()


def refusals(*visitors: Visitor) -> int:
    """How many refusals of access the audit log has for these visitors only: other tests leave theirs."""
    row = audit_log.AuditLog
    theirs = row.user_id.in_([visitor.user["id"] for visitor in visitors])
    return int(row.select().where(row.action == "auth.access.refused", theirs).count())


def error(result: Result) -> tuple[int, str]:
    """The status and the error code of an error response."""
    assert result.json["success"] is False, result.text
    assert result.json["error"]["message"]
    return result.status_code, result.json["error"]["code"]


def invalid_fields(result: Result) -> set[str]:
    """The fields that a 400 names."""
    assert error(result) == (400, "VALIDATION_ERROR")
    return {fault["field"] for fault in result.json["error"]["details"]["fields"]}
