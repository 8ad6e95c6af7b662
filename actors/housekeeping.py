"""What has to be swept up now and then; the scheduler promises it."""

from actors.verbs import record
from db import auth, times


@record("housekeeping")
def expire_refresh_tokens() -> None:
    """Deletes refresh tokens past their seven days, and the sessions that have none left."""
    auth.expire_refresh_tokens(times.now())
