"""Mail jobs: one-time links, and notifications about an account or a payment."""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from uuid import UUID, uuid4

from actors import mail_sender, mail_templates
from actors.batch_jobs import BatchEntry
from actors.external_jobs import ExternalBatchJob, external_job
from actors.jobs import enqueue, transactional_job
from db import one_time_tokens, payment_mails, postgres, users
from db.core import times
from db.job_journal import Job
from db.one_time_tokens import Purpose
from db.payment_mails import PaymentMail

_LINK_LIFETIME = {Purpose.VERIFY_EMAIL: timedelta(hours=24), Purpose.RESET_PASSWORD: timedelta(minutes=30)}

# Anyone can request these mails for any address, and must not flood its mailbox. So MAILS_AT_ONCE are sent at
# once, and further ones MAIL_SPACING apart: MAILS_AN_HOUR. A link always works until the next mail arrives;
# where none does, because it was used, the next mail is sent at once.
MAILS_AT_ONCE, MAILS_AN_HOUR = 2, 5
MAIL_SPACING = timedelta(minutes=15)


class UserNotice(StrEnum):
    """A notification about an account."""

    PASSWORD_CHANGED = "password-changed"


@transactional_job("mail.request_verification", queue="mail")
def request_verification(user_id: UUID) -> None:
    """Sends a user a link that verifies the e-mail address, unless it is verified."""
    user = _active_user(user_id)
    if user and not user.email_verified:
        _enqueue_link(user.id, Purpose.VERIFY_EMAIL)


@transactional_job("mail.request_password_reset", queue="mail")
def request_password_reset(email: str) -> None:
    """Sends a link to choose a new password, if the address belongs to an account.

    The API enqueues this job for every address alike, so that neither its response nor its duration shows
    whether there is an account.
    """
    user = users.by_email(email)
    if user is not None and user.active:
        _enqueue_link(user.id, Purpose.RESET_PASSWORD)


@external_job("mail.send_link", queue="mail")
def send_link(user_id: UUID, purpose: Purpose, id: UUID) -> None:
    """Sends the link of a one-time token row, if the token can still be used."""
    with postgres.connection():
        user, token = _active_user(user_id), one_time_tokens.get(id)
    if not (user and token and token.is_usable(times.now())):
        return
    verifies = purpose is Purpose.VERIFY_EMAIL
    template = mail_templates.verify_email if verifies else mail_templates.reset_password
    # A hash, and not the id itself, from which the token is derived.
    message_id = f"{purpose}.{hashlib.sha256(b'message' + id.bytes).hexdigest()[:32]}"
    mail_sender.send(user.email, template(_name(user), mail_sender.link(purpose, id)), message_id)


@external_job("mail.notify_old_address", queue="mail")
def notify_old_address(user_id: UUID, email: str, id: UUID) -> None:
    """Tells the previous e-mail address of an account that the account has another one now."""
    if _active_user(user_id):
        mail_sender.send(email, mail_templates.address_changed(), f"address-changed.{id}")


@external_job("mail.notify_user", queue="mail")
def notify_user(user_id: UUID, news: UserNotice, id: UUID) -> None:
    """Notifies a user of a change to the account. The id makes the message the same one at every attempt."""
    if user := _active_user(user_id):
        mail_sender.send(user.email, mail_templates.password_changed(_name(user)), f"{news}.{id}")


class PaymentNotice(BatchEntry):
    """A mail about the end of a payment, to its payer or to its payee."""

    payment_id: UUID
    to_payee: bool = False


def _find(notices: Sequence[PaymentNotice]) -> list[PaymentMail | None]:
    """Returns the mail of each notice; None if the user does not want the mail, or there is no such user."""
    wanted = [(notice.payment_id, notice.to_payee) for notice in notices]
    mails = payment_mails.find(wanted)
    return [mails.get(mail) for mail in wanted]


def _send(mail: PaymentMail) -> bool:
    """Sends a mail; returns False where the mail server will never accept it."""
    message_id = f"payment-{mail.status}.{mail.payment_id}.{mail.user_id}"
    return mail_sender.send(mail.email, mail_templates.payment_ended(_name(mail), mail), message_id)


notify_payment_ended = ExternalBatchJob(
    "mail.notify_payment_ended",
    PaymentNotice,
    queue="mail",
    prepare=_find,
    call=_send,
    record=payment_mails.record,
)


def notice_job(payment_id: UUID, *, to_payee: bool) -> Job:
    """Returns the job of a mail about the end of a payment, with an id by which the timeline finds it."""
    job = notify_payment_ended.job(PaymentNotice(payment_id=payment_id, to_payee=to_payee))
    return job.unique(f"{payment_id}:{'payee' if to_payee else 'payer'}")


def _active_user(id: UUID) -> users.User | None:
    """Returns the user with this id, if the account is active."""
    with postgres.connection():
        user = users.get(id)
    return user if user and user.active else None


def _name(recipient: users.User | PaymentMail) -> str:
    """Returns the name for a greeting; empty if the address, and so the name, is unverified."""
    return recipient.name if recipient.email_verified else ""


def _enqueue_link(user_id: UUID, purpose: Purpose) -> None:
    """Enqueues the mail of a new link, later if many were sent; does nothing if one is waiting."""
    # Locked, so that of two requests at once the second one sees the mail of the first.
    user, now = users.locked(user_id), times.now()
    if user is None:
        return
    links = one_time_tokens.recently_mailed_links(user_id, purpose, user.email, now)
    if links and links[-1].due_at > now:
        # A mail is waiting to be sent; it serves this request too.
        return
    due_at = now
    if len(links) >= MAILS_AT_ONCE and any(link.works for link in links):
        due_at = max(due_at, links[-1].due_at + MAIL_SPACING)
    if len(links) >= MAILS_AN_HOUR:
        due_at = max(due_at, links[-MAILS_AN_HOUR].due_at + one_time_tokens.MAIL_LIMIT_WINDOW)
    id = uuid4()
    one_time_tokens.add(
        id,
        user_id,
        purpose,
        token=mail_sender.token(id),
        email=user.email,
        due_at=due_at,
        expires_at=due_at + _LINK_LIFETIME[purpose],
    )
    job = send_link.job(user_id, purpose, id)
    enqueue(job.delayed((due_at - now).total_seconds()) if due_at > now else job)
