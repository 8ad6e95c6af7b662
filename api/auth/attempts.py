"""An account that keeps failing answers ever more slowly, whoever asks, and is never locked for good."""

from datetime import datetime, timedelta

from db import attempts, times
from db.fault import Code, Fault

# So many failures in a row are human; each one more doubles the wait, up to a minute.
_FREE = 5
_LONGEST = timedelta(minutes=1)
_FORGOTTEN = timedelta(hours=1)


class TooManyFailures(Fault):
    """Signing in to this account has failed too often: wait a little."""

    code = Code.RATE_LIMITED

    def __init__(self, wait: timedelta) -> None:
        self.retry_after = max(1, -(-wait // timedelta(seconds=1)))
        super().__init__({"retryAfter": self.retry_after})


def check(email: str) -> None:
    """Raises TooManyFailures when an attempt comes too soon, without looking at what is attempted.

    What is refused here does not count as a failure: so nobody can keep an account shut by asking.
    """
    known = attempts.failures(email)
    if known is None:
        return
    wait = _wait(*known) - times.now()
    if wait > timedelta(0):
        raise TooManyFailures(wait)


def failed(email: str) -> None:
    """Counts a failure."""
    now = times.now()
    attempts.failed(email, now, forgotten=now - _FORGOTTEN)


def forget(email: str) -> None:
    """Whoever proved to be the owner starts anew."""
    attempts.succeeded(email)


def _wait(failures: int, failed_at: datetime) -> datetime:
    over = failures - _FREE
    return failed_at + min(_LONGEST, timedelta(seconds=2 ** min(over, 10))) if over >= 0 else failed_at
