"""Mail: links that work once, and news about an account.

A link's token is made from the id of its row and a secret, not drawn: so a letter that is sent again holds
the same link, and the journal never holds a token. The database keeps only its SHA-256.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.utils import formatdate
from enum import StrEnum
from uuid import UUID, uuid4

import structlog
from email_validator import validate_email

from actors import mail_templates, mail_transports
from actors.jobs import enqueue, external_job, transactional_job
from actors.settings import MailSettings
from db import one_time_tokens, payments, postgres, profile, users
from db.core import money, times
from db.one_time_tokens import Purpose
from db.states import PaymentStatus

log = structlog.get_logger(__name__)

_LIFETIME = {Purpose.VERIFY_EMAIL: timedelta(hours=24), Purpose.RESET_PASSWORD: timedelta(minutes=30)}


# Anybody can ask for these letters, and nobody's mailbox is flooded: so many leave at once, the others one by
# one. That is five an hour, and always one that works: a link lives longer than the next takes to come.
MAILS_AT_ONCE = 2
MAIL_SPACING = timedelta(minutes=15)


class UserNotice(StrEnum):
    """What is told without a link."""

    PASSWORD_CHANGED = "password-changed"


@dataclass(frozen=True)
class _Office:
    post: mail_transports.MailTransport
    sender: str
    public_url: str
    frontend_url: str
    key: bytes


_office: _Office | None = None


def configure(settings: MailSettings, by: mail_transports.MailTransport | None = None) -> None:
    """Sets where this process's mail goes: to MAIL_URL, or `by` another way."""
    global _office
    # Its own key, made of the one secret that is never rotated: links must outlive a new signing key.
    key = hmac.digest(settings.password_pepper.encode(), b"one-time-links", hashlib.sha256)
    frontend = settings.frontend_url or settings.public_url
    always_tls = settings.app_env == "production"
    goes_to = mail_transports.transport_for(settings.mail_url, always_tls=always_tls) if by is None else by
    _office = _Office(goes_to, settings.mail_from, settings.public_url, frontend, key)


@transactional_job("mail.request_verification", queue="mail")
def request_verification(user_id: UUID) -> None:
    """Mails a person a link that proves the address theirs, unless it is proved."""
    user = users.get(user_id)
    if user is not None and user.active and not user.email_verified:
        _enqueue_link(user.id, Purpose.VERIFY_EMAIL)


@transactional_job("mail.request_password_reset", queue="mail")
def request_password_reset(email: str) -> None:
    """Mails a link to choose a new password, if there is somebody with this address.

    The door promises this for every address alike: so its answer, and how long it takes, tells nothing.
    """
    user = users.by_email(email)
    if user is not None and user.active:
        _enqueue_link(user.id, Purpose.RESET_PASSWORD)


@external_job("mail.send_link", queue="mail")
def send_link(user_id: UUID, purpose: Purpose, id: UUID) -> None:
    """Sends the letter with the link of this row, if the link still works."""
    with postgres.connection():
        user = users.get(user_id)
        if user is None or not user.active or not one_time_tokens.is_usable(id, times.now()):
            return
    # To a page with a button: what only opens links, as a mail scanner does, verifies nothing.
    link = f"{_opened().frontend_url}/{purpose}?token={_token(id)}"
    write = mail_templates.verify_email if purpose is Purpose.VERIFY_EMAIL else mail_templates.reset_password
    # Not the row's id: the token is made of that.
    name = hashlib.sha256(b"message" + id.bytes).hexdigest()[:32]
    _send(user.email, write(_name(user), link), f"{purpose}.{name}")


@external_job("mail.notify_old_address", queue="mail")
def notify_old_address(user_id: UUID, email: str, id: UUID) -> None:
    """Tells the address that an account had until now that it has another one."""
    with postgres.connection():
        user = users.get(user_id)
    if user is not None and user.active:
        _send(email, mail_templates.address_changed(), f"address-changed.{id}")


@external_job("mail.notify_user", queue="mail")
def notify_user(user_id: UUID, news: UserNotice, id: UUID) -> None:
    """Sends a letter about the account; the id makes it one letter, however often it is sent."""
    with postgres.connection():
        user = users.get(user_id)
    if user is not None and user.active:
        _send(user.email, mail_templates.password_changed(_name(user)), f"{news}.{id}")


@external_job("mail.notify_payment_ended", queue="mail")
def notify_payment_ended(user_id: UUID, payment_id: UUID) -> None:
    """Tells a payer, or a vendor who was paid, how a payment ended, unless they do not want to know."""
    with postgres.connection():
        user, payment = users.get(user_id), payments.get(payment_id)
        if user is None or payment is None or not user.active:
            return
        completed = payment.status == PaymentStatus.COMPLETED
        if not profile.wants_notification(user.id, "paymentCompleted" if completed else "paymentFailed"):
            return
    amount = f"{money.text(payment.amount, payment.currency)} {payment.currency}"
    news = mail_templates.Payment(amount, payment.description, str(payment.id), payment.failure_message)
    write = mail_templates.payment_completed if completed else mail_templates.payment_failed
    letter = write(_name(user), news, paid_to_you=user.id == payment.payee_id)
    _send(user.email, letter, f"payment-{payment.status}.{payment.id}.{user.id}")


def _name(user: users.User) -> str:
    """What a letter calls a user: only who has proved the address chose that name themselves."""
    return user.name if user.email_verified else ""


def _enqueue_link(user_id: UUID, purpose: Purpose) -> None:
    # Of two requests at once, the second sees the letter of the first.
    user, now = users.locked(user_id), times.now()
    if user is None:
        return
    due = one_time_tokens.mails_due_since(user_id, purpose, now - one_time_tokens.MAIL_LIMIT_WINDOW)
    if due and due[-1] > now:
        # One is to come: whoever asks meanwhile gets that one.
        return
    due_at = now if len(due) < MAILS_AT_ONCE else max(now, due[-1] + MAIL_SPACING)
    id = uuid4()
    one_time_tokens.add(
        id,
        user_id,
        purpose,
        token=_token(id),
        email=user.email,
        due_at=due_at,
        expires_at=due_at + _LIFETIME[purpose],
    )
    task = send_link.job(user_id, purpose, id)
    enqueue(task.delayed((due_at - now).total_seconds()) if due_at > now else task)


def _token(id: UUID) -> str:
    digest = hmac.digest(_opened().key, id.bytes, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _send(to: str, letter: mail_templates.MailMessage, name: str) -> None:
    message = EmailMessage()
    message["From"] = _opened().sender
    # The domain as DNS writes it: not every server takes another.
    message["To"] = validate_email(to, check_deliverability=False, test_environment=True).ascii_email or to
    message["Subject"] = letter.subject
    message["Date"] = formatdate(usegmt=True)
    # By it a mailbox recognises a letter that was sent again.
    message["Message-ID"] = f"<{name}@paywright>"
    message["Auto-Submitted"] = "auto-generated"
    text = letter.text()
    # Where it can be, not quoted-printable: it would cut a link in two.
    message.set_content(text, cte="7bit" if text.isascii() else "quoted-printable")
    message.add_alternative(letter.html(), subtype="html", cte="7bit")
    try:
        _opened().post.send(message)
    except mail_transports.MailRejected as refused:
        if not refused.final:
            raise
        log.error("a letter was refused for good", letter=name, code=refused.code)


def _opened() -> _Office:
    if _office is None:
        raise RuntimeError("mail.open() was not called: only the mail worker sends mail")
    return _office
