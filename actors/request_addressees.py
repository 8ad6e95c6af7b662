"""Addressees: to whom a request belongs that names an e-mail address.

Only the account that has proved the address is its addressee, and by its id: the request follows that account
when its address changes, and whoever has the address next does not see it. A request whose address nobody has
proved yet belongs to nobody, until somebody does.
"""

from uuid import UUID

from actors.jobs import enqueue, transactional_job
from db import payments, users
from db.users import User

# How many requests are bound in the transaction that proves the address, and how many in one of the job.
AT_ONCE, BATCH = 100, 1000
# A request may be under way while its address is being proved, so that neither sees the other. After so many
# seconds no transaction of that moment is left (statement and idle time limits), and the job looks once more.
IN_FLIGHT_S = 15.0


def of(email: str | None) -> UUID | None:
    """The user who has proved this address."""
    return users.verified_owner(email) if email else None


def proved(user: User) -> None:
    """Binds the requests that wait for this user's address, in the transaction that proves it: some at once,
    the rest in a job."""
    if payments.bind_addressee(user.email, user.id, limit=AT_ONCE, wait=False) == AT_ONCE:
        enqueue(bind.job(user.id))
    enqueue(bind.job(user.id).delayed(IN_FLIGHT_S))


@transactional_job("payments.bind_addressee", queue="payments")
def bind(user_id: UUID) -> None:
    """Binds the requests that still wait for this user's address, if it is proved."""
    user = users.locked(user_id)
    if user is None or not user.email_verified:
        return
    if payments.bind_addressee(user.email, user.id, limit=BATCH) == BATCH:
        enqueue(bind.job(user_id))
