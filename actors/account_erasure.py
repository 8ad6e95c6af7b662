"""Erasure: what the closing of an account leaves to do, so many rows a transaction, until nothing is left.

Erased are e-mail address, name, phone, postal address, bio and picture, wherever they were copied, under
every address that the account ever had. Payments, history and audit log stay: they say who by an id.
"""

from uuid import UUID

from actors import audit, events, media, snapshots
from actors.jobs import enqueue, transactional_job
from actors.request_addressees import IN_FLIGHT_S
from db import personal_data, postgres, sign_in_failures, users
from db.users import User

# How many requests one transaction changes, each with an event, an audit row and stored answers; how many
# events or jobs; and how many sessions, each with the refresh tokens of a week.
REQUESTS, ROWS, SESSIONS = 100, 1000, 50
# How long to wait for jobs that name the account and are in hand, and for events that have no number yet.
IN_HAND_S = 1.0
# How long a statement may take, in seconds: jobs have no index of the addresses that they name, and a million
# of them may wait.
STATEMENT_S = 30.0

# What is known of somebody whose account is closed; `.invalid` is nobody's domain (RFC 2606).
NAME = "Closed account"


def address(user_id: UUID) -> str:
    """The address of a closed account."""
    return f"closed-{user_id}@closed.invalid"


def close(user: User) -> User:
    """Closes a locked account: nobody signs in, every token is dead, the profile is gone.

    The rest of its personal data is erased by a job.
    """
    media.forget(user.id)
    closed = users.close(user.id, email=address(user.id), name=NAME)
    sign_in_failures.clear_account(str(user.id))
    enqueue(erase.job(user.id))
    return closed


@transactional_job("accounts.erase", queue="housekeeping")
def erase(user_id: UUID, again: bool = False) -> None:
    """Erases some of what is left of a closed account, and enqueues itself as long as something may be left.

    What was under way at the closing may still have written the address. So it looks `again`, when no
    transaction of that moment is left; then only what is bound to the account by its id.
    """
    pause = _chunk(user_id)
    if pause is not None:
        enqueue(erase.job(user_id, again).delayed(pause))
        return
    personal_data.forget_addresses(user_id)
    if not again:
        enqueue(erase.job(user_id, True).delayed(IN_FLIGHT_S))


def _chunk(user_id: UUID) -> float | None:
    """Erases one chunk; in how many seconds the next one is due, None when nothing is left."""
    postgres.set_statement_timeout(STATEMENT_S)
    closed = address(user_id)
    free, taken = personal_data.former_addresses(user_id)
    requests = personal_data.erase_from_requests(user_id, free, closed=closed, limit=REQUESTS)
    for request in requests:
        details = {"fields": ["customer_email"]}
        audit.record(audit.AuditAction.PAYMENT_UPDATE, resource=("payment", request.id), details=details)
        events.emit(events.EventType.PAYMENT_UPDATED, snapshots.payment(request))
    if requests:
        return 0
    # From here on no event is made that names an address; the last ones may still wait for their number.
    if personal_data.has_pending_events(events.append.name, user_id, [*free, *taken], closed=closed):
        return IN_HAND_S
    if (
        personal_data.erase_from_jobs(free, closed=closed, limit=ROWS)
        or personal_data.erase_from_events_naming(free, closed=closed, limit=ROWS)
        or (taken and personal_data.erase_from_events_of_requests(user_id, taken, closed=closed, limit=ROWS))
        or personal_data.erase_from_events_about(user_id, name=NAME, closed=closed, limit=ROWS)
        or personal_data.delete_sessions(user_id, limit=SESSIONS)
    ):
        return 0
    return IN_HAND_S if personal_data.jobs_remain(free) else None
