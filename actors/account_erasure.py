"""Erases the personal data of closed accounts, a limited number of rows in each transaction.

This removes e-mail address, name, phone, postal address, bio and avatar wherever they were copied, for every
e-mail address that the account ever had. Payments, their history and the audit log stay: they name the user
by id.
"""

from uuid import UUID

from actors import audit, events, media, records, snapshots
from actors.jobs import IN_FLIGHT_S, enqueue, transactional_job
from db import personal_data, postgres, sign_in_failures, users
from db.users import User

# How many rows one transaction changes: payment requests, each with an event, an audit entry and stored
# responses; events or jobs; and sessions, each with the refresh tokens of a week.
REQUESTS, ROWS, SESSIONS = 100, 1000, 50
# How long to wait for jobs that name the account and are running, and for events that have no number yet.
RUNNING_JOBS_PAUSE_S = 1.0
# How long a statement may take: jobs have no index of the addresses in them, and there may be a million.
STATEMENT_TIMEOUT_S = 30.0

# The name of a closed account.
NAME = "Closed account"


def address(user_id: UUID) -> str:
    """Returns the e-mail address of a closed account; `.invalid` belongs to nobody (RFC 2606)."""
    return f"closed-{user_id}@closed.invalid"


def close(user: User) -> User:
    """Closes a locked account and returns it: ends its sessions and tokens, and deletes the profile.

    A job erases the rest of the personal data.
    """
    media.enqueue_removal(user.id)
    closed = users.close(user.id, email=address(user.id), name=NAME)
    sign_in_failures.clear_account(str(user.id))
    enqueue(erase.job(user.id))
    return closed


@transactional_job("accounts.erase", queue="housekeeping")
def erase(user_id: UUID, again: bool = False) -> None:
    """Erases one chunk of a closed account's data, and enqueues itself until nothing is left.

    A transaction that was open when the account was closed may write the address afterwards. So the job runs
    `again` when no such transaction can be open any more, then only for data that has the account's id.
    """
    pause = _erase_chunk(user_id)
    if pause is not None:
        enqueue(erase.job(user_id, again).delayed(pause))
        return
    personal_data.forget_addresses(user_id)
    if not again:
        enqueue(erase.job(user_id, True).delayed(IN_FLIGHT_S))


def _erase_chunk(user_id: UUID) -> float | None:
    """Erases one chunk; returns in how many seconds the next one is due, None when nothing is left."""
    postgres.set_statement_timeout(STATEMENT_TIMEOUT_S)
    closed = address(user_id)
    free, taken = personal_data.former_addresses(user_id)
    requests = personal_data.erase_from_requests(user_id, free, closed=closed, limit=REQUESTS)
    for request in requests:
        details = {"fields": ["customer_email"]}
        audit.record(audit.AuditAction.PAYMENT_UPDATE, resource=("payment", request.id), details=details)
        events.emit(events.EventType.PAYMENT_UPDATED, snapshots.payment(request))
    if requests:
        return 0
    # No further event will name an address; the last ones may still wait for their numbers.
    if personal_data.has_pending_events(records.append.name, user_id, [*free, *taken], closed=closed):
        return RUNNING_JOBS_PAUSE_S
    if (
        personal_data.erase_from_jobs(free, closed=closed, limit=ROWS)
        or personal_data.erase_from_events_naming(free, closed=closed, limit=ROWS)
        or (taken and personal_data.erase_from_events_of_requests(user_id, taken, closed=closed, limit=ROWS))
        or personal_data.erase_from_events_about(user_id, name=NAME, closed=closed, limit=ROWS)
        or personal_data.delete_sessions(user_id, limit=SESSIONS)
    ):
        return 0
    return RUNNING_JOBS_PAUSE_S if personal_data.jobs_remain(free) else None
