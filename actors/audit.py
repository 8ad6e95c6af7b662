"""The audit log: who did what, from where; promised in the change's own transaction, written by an actor."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import structlog

from actors.jobs import BatchEntry, batch_job, enqueue
from db import audit_chain, refusals
from db.core import request_context, times

log = structlog.get_logger(__name__)

_UUID_LENGTH = 36


class AuditAction(StrEnum):
    """What can be done that somebody may ask about later."""

    USER_REGISTERED = "auth.user.registered"
    USER_SIGNED_IN = "auth.user.signed_in"
    SIGN_IN_FAILED = "auth.user.sign_in_failed"
    # Too many failures before: no password was looked at.
    SIGN_IN_REFUSED = "auth.user.sign_in_refused"
    PASSWORD_CHANGE_REFUSED = "auth.password.change_refused"
    USER_SIGNED_OUT = "auth.user.signed_out"
    PASSWORD_CHANGED = "auth.password.changed"
    PASSWORD_RESET_REQUESTED = "auth.password.reset_requested"
    PASSWORD_RESET = "auth.password.reset"
    EMAIL_VERIFIED = "auth.email.verified"
    VERIFICATION_REQUESTED = "auth.email.verification_requested"
    TOKEN_REUSED = "auth.token.reused"
    ACCESS_REFUSED = "auth.access.refused"
    USER_CREATED = "admin.user.created"
    USER_UPDATED = "admin.user.updated"
    USER_ROLE_CHANGED = "admin.user.role_changed"
    USER_SESSIONS_ENDED = "admin.user.sessions_ended"
    USER_CLOSED = "admin.user.closed"
    CONFIG_UPDATED = "admin.config.updated"
    PROFILE_UPDATED = "profile.updated"
    PREFERENCES_UPDATED = "profile.preferences.updated"
    AVATAR_CHANGED = "profile.avatar.changed"
    AVATAR_DELETED = "profile.avatar.deleted"
    # One a step of the law: lifecycle.Step.
    PAYMENT_CREATE = "payments.payment.create"
    PAYMENT_BEGIN = "payments.payment.begin"
    PAYMENT_ENGAGE = "payments.payment.engage"
    PAYMENT_COMPLETE = "payments.payment.complete"
    PAYMENT_FAIL = "payments.payment.fail"
    PAYMENT_REOPEN = "payments.payment.reopen"
    PAYMENT_EXPIRE = "payments.payment.expire"
    PAYMENT_CANCEL = "payments.payment.cancel"
    PAYMENT_UPDATE = "payments.payment.update"
    # A person has looked at it; the cause of a review was found, and was disproved.
    PAYMENT_REVIEWED = "payments.payment.reviewed"
    REVIEW_OPENED = "payments.review.opened"
    REVIEW_RESOLVED = "payments.review.resolved"
    # Allowed when it was asked for, and not any more when its turn came.
    TRANSITION_REFUSED = "payments.transition.refused"
    # Somebody wanted to fail it by hand, and the PSP, asked first, had decided.
    PSP_DECIDED = "payments.psp.already_decided"
    # What a day's statement of the PSP says, and we do not.
    STATEMENT_DIFFERS = "payments.statement.differs"
    # Somebody asked for a look at all invariants.
    INVARIANTS_CHECKED = "admin.invariants.checked"


class AuditEntry(BatchEntry):
    """One row to be written, as it was known when the thing was done."""

    user_id: UUID | None
    action: AuditAction
    resource_type: str | None
    resource_id: UUID | None
    details: dict[str, Any]
    ip_address: str | None
    user_agent: str | None
    request_id: str | None
    created_at: datetime


def record(
    action: AuditAction,
    *,
    resource: tuple[str, UUID] | None = None,
    user_id: UUID | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Promises a row about what this transaction does: `resource` is its type and id, `user_id` who does it
    when that is not the caller (who signs in is not yet one)."""
    where = request_context.current()
    enqueue(
        write.job(
            AuditEntry(
                id=uuid4(),
                user_id=user_id or where.user_id,
                action=action,
                resource_type=resource[0] if resource else None,
                resource_id=resource[1] if resource else None,
                details=details or {},
                ip_address=where.ip_address,
                user_agent=where.user_agent,
                request_id=where.request_id,
                created_at=times.now(),
            )
        )
    )


def record_sampled(action: AuditAction, *, account: str, user_id: UUID | None) -> None:
    """Notes what strangers cause as often as they like: the first in a minute at once, the others together.

    `account` is the user's id, or a keyed digest of an address that nobody has.
    """
    if refusals.increment(action, account, times.now()) == 1:
        record(action, **_about(account, user_id))


def sum_up(before: datetime, limit: int) -> int:
    """Notes how often more it was in the minutes that began before this moment; how many minutes it took."""
    taken = refusals.pop_before(before, limit)
    for it in taken:
        if it.times > 1:
            user_id = UUID(it.account) if len(it.account) == _UUID_LENGTH else None
            about = _about(it.account, user_id)
            more = {"times": it.times - 1, "minute": times.iso(it.minute)}
            record(AuditAction(it.action), **{**about, "details": {**about["details"], **more}})
    return len(taken)


def _about(account: str, user_id: UUID | None) -> dict[str, Any]:
    if user_id is None:
        return {"details": {"addressDigest": account}}
    return {"resource": ("user", user_id), "details": {}}


@batch_job("audit.write", AuditEntry, queue="events")
def write(lines: Sequence[AuditEntry]) -> None:
    """Writes rows in the order in which they were promised, each chained to the one before."""
    audit_chain.append([line.model_dump(mode="json") for line in lines])


def verify() -> audit_chain.Verification:
    """Verifies the whole chain, now."""
    found = audit_chain.verify()
    witness(found)
    return found


def witness(found: audit_chain.Verification | audit_chain.VerificationStep) -> None:
    """Logs what a verification found. The log line is its witness outside the database: who owns that can
    chain everything anew, but not so that an older line still agrees with its row."""
    if found.broken:
        log.error(
            "the audit log is broken", rows=found.rows, id=str(found.broken.id), reason=found.broken.how
        )
    else:
        log.info("the audit log is whole", rows=found.rows, seq=found.seq, hash=found.hash)
