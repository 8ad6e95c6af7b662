"""What tests make again and again, one word each."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.message import EmailMessage
from functools import cache
from typing import Any, TypeVar
from uuid import UUID, uuid4

from falcon.testing import Result, TestClient
from peewee import SQL

from actors import all_jobs, jobs, payment_jobs, request_addressees, snapshots, subscriber
from actors.jobs import transaction
from actors.psp.stub import Stub
from api import accounts
from api.security.keys import Keys
from api.security.passwords import Passwords
from api.security.tokens import REFRESH_LIFETIME, Tokens, fingerprint
from api.settings import WebSettings
from db import audit_log, event_log, job_journal, payments, postgres, reviews, sessions, subscriptions, users
from db.core import times
from db.payments import Payment
from db.users import Role, User
from workers import scheduler
from workers.subscribers import SUBSCRIBERS

T = TypeVar("T")

# Every job by its name.
JOBS = all_jobs.load()

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
}


class Mailbox(list[EmailMessage]):
    """Where the letters of a test go."""

    def send(self, letter: EmailMessage) -> None:
        self.append(letter)

    def token(self) -> str:
        """What the link in the last letter carries."""
        return token_of(self[-1])


def token_of(letter: EmailMessage) -> str:
    """What the link in a letter carries."""
    [token] = re.findall(r"token=([\w-]+)", text_of(letter))
    return str(token)


def text_of(letter: EmailMessage, kind: str = "plain") -> str:
    """What a letter says."""
    body = letter.get_body((kind,))
    return str(body.get_content()) if body else ""


mailbox = Mailbox()


def wipe() -> None:
    """Takes back whatever was committed, in every table; what the migrations put there is as it was.

    As a replica: triggers and foreign keys look away, which only a superuser may ask for.
    """
    with postgres.connection(), postgres.database.atomic():
        tables = postgres.rows(
            "SELECT format('%%I.%%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('public', 'pg_catalog', 'information_schema')"
            " AND tablename NOT IN ('audit_seal', 'health_check', 'subscriptions')"
        )
        postgres.rows("SET LOCAL session_replication_role = replica")
        postgres.rows(";".join(f"DELETE FROM {table['name']}" for table in tables))
        postgres.rows("UPDATE admin.audit_seal SET seq = 0, hash = decode(repeat('00', 32), 'hex')")
        skip_old_events()


def stub(sleep: Callable[[float], None] = lambda _seconds: None) -> Stub:
    """The provider, without its waiting times."""
    return Stub(payment_jobs.receive_notice, sleep=sleep)


def until(condition: Callable[[], T | None], seconds: float = 60) -> T:
    """Waits for the condition, and gives what it found."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


def address() -> str:
    """An e-mail address that nobody has."""
    return f"{uuid4().hex[:12]}@example.com"


@contextmanager
def triggers_disabled() -> Iterator[None]:
    """Lets the block write what no trigger of the database would take: a payment that stands somewhere, history
    that is rewritten. As `wipe`, only a superuser may ask for it."""
    with postgres.database.atomic():
        postgres.rows("SET LOCAL session_replication_role = replica")
        yield
        postgres.rows("SET LOCAL session_replication_role = origin")


def payment_row(**columns: Any) -> Payment:
    """A payment or request with these columns, however it came to its status."""
    with triggers_disabled():
        return payments.add(**columns)


def user(role: Role = Role.CUSTOMER, **more: Any) -> User:
    """A person who cannot sign in by password."""
    made = users.add(email=address(), password_hash="none", name="Some One", role=role, **more)
    assert made is not None
    return made


def payment(customer: User | None = None, *, amount: str = "12.50", **metadata: Any) -> Payment:
    """A payment that a customer has just made: pending, its first step promised."""
    with transaction():
        return payment_jobs.create_payment(
            customer_id=(customer or user()).id, amount=Decimal(amount), currency="USD", metadata=metadata
        )


def request(vendor: User | None = None, *, customer_email: str | None = None) -> Payment:
    """A payment request that a vendor has just made."""
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
    """A payment against a request, which somebody has just made. Raises what the law says."""
    customer = user()
    with transaction():
        return payment_jobs.pay_request(
            request.id, customer_id=customer.id, description=None, metadata=metadata
        )


def reload(payment: Payment) -> Payment:
    """The same payment as the database has it now."""
    found = payments.get(payment.id)
    assert found is not None
    return found


def review(payment: Payment) -> str | None:
    """Why a person has to look at the payment now; None when nobody has to."""
    opened = [it.reason for it in reviews.for_payment(payment.id) if it.resolved_at is None]
    return "; ".join(opened) or None


def work(*, also: str = "") -> list[str]:
    """Does all promised work in this thread, in its order; the verbs of business that were done.

    Not named are those that only tell of it (audit.*, events.*, mail.*), unless `also` is a prefix of theirs.
    """
    done = []
    # Whoever listens has heard nothing before everything is said; and what it promises is to be done as well.
    while (task := _next()) or deliver_events():
        if task is None:
            continue
        JOBS[task.name].perform(task.id)
        failed = job_journal.JobRow.get_or_none(job_journal.JobRow.id == task.id)
        assert failed is None, f"{task.name} is still to be done: {failed.error}"
        if not task.name.startswith(("audit.", "events.", "mail.")) or (also and task.name.startswith(also)):
            done.append(task.name)
    return done


def enqueue_scheduled(job: jobs.TransactionalJob[[]]) -> None:
    """The time of a scheduled job has come."""
    assert _leader.check()
    assert scheduler.enqueue_scheduled(job, _leader)


_leader = scheduler.Leader()


def deliver_events() -> bool:
    """The hub hears what has happened since it last listened; whether there was anything for it."""
    heard = subscriber.once(SUBSCRIBERS)
    stumbled = subscriptions.Subscription.get_or_none(subscriptions.Subscription.error.is_null(False))
    assert stumbled is None, f"{stumbled.name} failed: {stumbled.error}"
    return heard


def skip_old_events() -> None:
    """Whatever other tests have left in the event log is no news for the hub."""
    places = {"seq": event_log.last_seq(), "attempts": 0, "error": None, "due_at": SQL("clock_timestamp()")}
    subscriptions.Subscription.update(places).execute()


def _next() -> job_journal.JobRow | None:
    waiting = job_journal.JobRow.select().where(job_journal.JobRow.dead_at.is_null())
    found: job_journal.JobRow | None = waiting.order_by(job_journal.JobRow.position).first()
    return found


@dataclass(frozen=True)
class Visitor:
    """Somebody at the door: sends requests, with a token when there is one."""

    client: TestClient
    token: str = ""
    refresh_token: str = ""
    user: dict[str, Any] = field(default_factory=dict)

    def send(self, method: str, path: str, json: Any = None, **more: Any) -> Result:
        """One request to /api."""
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


def visitor(client: TestClient, role: Role = Role.CUSTOMER, *, email: str | None = None) -> Visitor:
    """A signed-in user of this role, made in the database: no job, event or mail follows from it."""
    with postgres.connection(), transaction():
        user = accounts.add(
            email=email or address(), password_hash=_password_hash(), name="Some One", role=role
        )
        session = sessions.start(user.id, ip_address="127.0.0.1", user_agent=None)
        refresh_token = _tokens().refresh()
        expires_at = times.now() + REFRESH_LIFETIME
        sessions.add_refresh_token(session, token=fingerprint(refresh_token), expires_at=expires_at)
    token = _tokens().access(user, session.id, times.now())
    return Visitor(client, token, refresh_token, snapshots.user(user))


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


def verify_email(who: Visitor) -> None:
    """The address of a visitor is proved, as by the mailed link."""
    with transaction():
        users.verify_email(UUID(who.user["id"]))
        request_addressees.bind_verified(users.User.get_by_id(who.user["id"]))
    work()


def refusals(*of: Visitor) -> int:
    """How often the audit log has that these lacked a role; other tests may have left rows of others."""
    row = audit_log.AuditLog
    theirs = row.user_id.in_([who.user["id"] for who in of])
    return int(row.select().where(row.action == "auth.access.refused", theirs).count())


def error(result: Result) -> tuple[int, str]:
    """Status and code of a refusal."""
    assert result.json["success"] is False, result.text
    assert result.json["error"]["message"]
    return result.status_code, result.json["error"]["code"]


def invalid_fields(result: Result) -> set[str]:
    """The fields that a 400 names."""
    assert error(result) == (400, "VALIDATION_ERROR")
    return {fault["field"] for fault in result.json["error"]["details"]["fields"]}
