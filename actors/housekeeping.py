"""What has to be swept up now and then; the scheduler promises it."""

from datetime import timedelta

import structlog

from actors.verbs import promise, record
from db import attempts, auth, idempotency, links, operating, times

log = structlog.get_logger(__name__)

# Rows that one transaction deletes: well below what the statement timeout allows.
_MANY = 5000


@record("housekeeping")
def expire_refresh_tokens() -> None:
    """Deletes refresh tokens past their seven days, and the sessions that have none left."""
    if auth.expire_refresh_tokens(times.now(), _MANY) == _MANY:
        promise(expire_refresh_tokens.message())


@record("housekeeping")
def expire_one_time_tokens() -> None:
    """Deletes links that no longer work."""
    links.expire(times.now())


@record("housekeeping")
def expire_sign_in_failures() -> None:
    """Deletes failures to sign in that slow nobody down any more."""
    attempts.expire(times.now() - timedelta(days=1))


@record("housekeeping")
def expire_idempotency_keys() -> None:
    """Deletes keys that are a day old and whose payment is final."""
    if idempotency.expire(times.now() - timedelta(days=1), _MANY) == _MANY:
        promise(expire_idempotency_keys.message())


@record("housekeeping")
def check_invariants() -> None:
    """Looks whether what must hold does hold of the last day's payments, for whoever watches."""
    now = times.now()
    standings = [operating.check(name, now, now - timedelta(days=1)) for name in operating.INVARIANTS]
    for it in standings:
        if not it.ok:
            log.error(
                "an invariant is broken", invariant=it.name, count=it.count, some=list(it.offenders)[:3]
            )
    operating.keep(standings)
