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


def check(who: str) -> None:
    """Raises TooManyFailures when an attempt comes too soon, without looking at what is attempted.

    What is refused here does not count as a failure: so nobody can keep an account shut by asking. `who` is
    an address, or whatever else keeps its own count.
    """
    known = attempts.failures(who)
    if known is None:
        return
    times_failed, failed_at = known
    now = times.now()
    wait = _wait(times_failed, failed_at) - now
    if wait > timedelta(0):
        raise TooManyFailures(wait)
    # Who waited has one attempt, not one for every connection that waited along.
    if times_failed >= _FREE and not attempts.take_turn(who, failed_at, now):
        raise TooManyFailures(timedelta(seconds=1))


def failed(who: str) -> None:
    """Counts a failure."""
    now = times.now()
    attempts.failed(who, now, forgotten=now - _FORGOTTEN)


def forget(who: str) -> None:
    """Whoever proved to be the owner starts anew."""
    attempts.succeeded(who)


def _wait(failures: int, failed_at: datetime) -> datetime:
    over = failures - _FREE
    return failed_at + min(_LONGEST, timedelta(seconds=2 ** min(over, 10))) if over >= 0 else failed_at
