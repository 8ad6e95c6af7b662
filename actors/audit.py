"""The audit log: who did what, from which address. An entry is written with the transaction of the change."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog

from actors import records
from db import audit_chain, audit_log
from db.core import request_context, times

log = structlog.get_logger(__name__)

# The length of a user id as text. The digest of an address, which stands for an unknown account, is longer.
_UUID_LENGTH = 36


class AuditAction(StrEnum):
    """Every action that the audit log records."""

    USER_REGISTERED = "auth.user.registered"
    USER_SIGNED_IN = "auth.user.signed_in"
    SIGN_IN_FAILED = "auth.user.sign_in_failed"
    # Refused for too many failures, without comparing the password.
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
    # One for each Transition of actors/state_machine.py.
    PAYMENT_CREATE = "payments.payment.create"
    PAYMENT_BEGIN = "payments.payment.begin"
    PAYMENT_ENGAGE = "payments.payment.engage"
    PAYMENT_COMPLETE = "payments.payment.complete"
    PAYMENT_FAIL = "payments.payment.fail"
    PAYMENT_REOPEN = "payments.payment.reopen"
    PAYMENT_EXPIRE = "payments.payment.expire"
    PAYMENT_CANCEL = "payments.payment.cancel"
    PAYMENT_UPDATE = "payments.payment.update"
    # A person reviewed the payment; a review was opened, and resolved without a person.
    PAYMENT_REVIEWED = "payments.payment.reviewed"
    REVIEW_OPENED = "payments.review.opened"
    REVIEW_RESOLVED = "payments.review.resolved"
    # The transition was allowed when it was requested, and no longer when its job ran.
    TRANSITION_REFUSED = "payments.transition.refused"
    # A person tried to fail the payment, and an inquiry showed that the PSP had decided it.
    PSP_DECIDED = "payments.psp.already_decided"
    # The PSP's statement of a day differs from our payments.
    STATEMENT_DIFFERS = "payments.statement.differs"
    # An operator acted on dead jobs, or on events that a subscriber gave up.
    JOB_RETRIED = "admin.job.retried"
    JOB_DROPPED = "admin.job.dropped"
    EVENTS_REPLAYED = "admin.events.replayed"
    EVENT_DROPPED = "admin.event.dropped"
    # A person requested a check of all invariants.
    INVARIANTS_CHECKED = "admin.invariants.checked"
    # A developer broke the stack of `make run` on purpose.
    FAULT_INJECTED = "admin.fault.injected"


def record(
    action: AuditAction,
    *,
    resource: tuple[str, UUID] | None = None,
    user_id: UUID | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Adds an audit entry about what the open transaction does to its records.

    `resource` is the type and the id of the record. `user_id` names the acting user where the request context
    has none, as at a sign-in.
    """
    context = request_context.current()
    records.add(
        "audit_entries",
        {
            "user_id": user_id or context.user_id,
            "action": action,
            "resource_type": resource[0] if resource else None,
            "resource_id": resource[1] if resource else None,
            "details": details or {},
            "ip_address": context.ip_address,
            "user_agent": context.user_agent,
            "created_at": times.now(),
        },
    )


def record_sampled(action: AuditAction, account: str) -> None:
    """Records an action that strangers can repeat at will: the first of each minute and account at once.

    `record_sums` records the others as one sum. `account` is the user's id, or a keyed digest of an address
    without an account.
    """
    if audit_log.count_refusal(action, account, times.now()) == 1:
        record(action, **_about(account))


def record_sums(before: datetime, limit: int) -> int:
    """Records how many more refusals there were in each minute before this time; returns how many minutes."""
    minutes = audit_log.pop_refusals(before, limit)
    for minute in minutes:
        if minute.count > 1:
            sums = {"times": minute.count - 1, "minute": times.iso(minute.minute)}
            record(AuditAction(minute.action), **_about(minute.account, **sums))
    return len(minutes)


def _about(account: str, **details: Any) -> dict[str, Any]:
    """Returns the arguments `resource` and `details` of `record` for an account of `record_sampled`."""
    if len(account) == _UUID_LENGTH:
        return {"resource": ("user", UUID(account)), "details": details}
    return {"details": {"addressDigest": account, **details}}


def verify() -> audit_chain.Verification:
    """Verifies the whole chain."""
    found = audit_chain.verify()
    log_verification(found)
    return found


def log_verification(found: audit_chain.Verification) -> None:
    """Logs the result of a verification.

    The log line is evidence outside the database: an attacker with write access can chain all rows anew, but
    their hashes then differ from those in older log lines.
    """
    if broken := found.broken:
        log.error("audit log broken", rows=found.rows, entry_id=str(broken.id), reason=broken.reason)
    else:
        log.info("audit log verified", rows=found.rows, seq=found.seq, hash=found.hash)
