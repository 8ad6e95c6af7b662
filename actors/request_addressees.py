"""Addressees: the account that may see and pay a request with a `customerEmail`.

The addressee is the account that has verified the address, stored by its id: the request follows the account
when its address changes, and the next owner of the address does not see it. Until an account verifies the
address, the request has no addressee.
"""

from uuid import UUID

from actors.jobs import IN_FLIGHT_S, enqueue, transactional_job
from db import payments, users
from db.users import User

# How many requests the transaction that verifies an address binds, and how many one transaction of the job.
BIND_AT_ONCE, BIND_BATCH = 100, 1000


def find(email: str | None) -> UUID | None:
    """Returns the id of the user who has verified this address."""
    found = users.by_email(email) if email else None
    return found.id if found is not None and found.email_verified else None


def bind_verified(user: User) -> None:
    """Binds the requests that name this user's address, in the transaction that verifies it.

    Binds BIND_AT_ONCE of them; a job binds the rest.
    """
    if payments.bind_addressee(user.email, user.id, limit=BIND_AT_ONCE, wait=False) == BIND_AT_ONCE:
        enqueue(bind.job(user.id))
    # A transaction that creates such a request now does not see that the address is verified.
    enqueue(bind.job(user.id).delayed(IN_FLIGHT_S))


@transactional_job("payments.bind_addressee", queue="payments")
def bind(user_id: UUID) -> None:
    """Binds requests without addressee that name this user's address, if it is still verified."""
    user = users.locked(user_id)
    if user is None or not user.email_verified:
        return
    if payments.bind_addressee(user.email, user.id, limit=BIND_BATCH) == BIND_BATCH:
        enqueue(bind.job(user_id))
