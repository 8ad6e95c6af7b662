"""Refusals of one kind at one account, counted by the minute, so that they cannot flood the audit log."""

from collections.abc import Sequence
from datetime import datetime

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class Refusal(
    postgres.Model, table="auth.refusals", primary_key=peewee.CompositeKey("action", "account", "minute")
):
    """The number of refusals of one kind at one account in one minute."""

    action = peewee.CharField(50)
    account = peewee.CharField(64)
    minute = DateTimeTZField()
    count = peewee.IntegerField()


INCREMENT = """
    INSERT INTO auth.refusals AS r (action, account, minute, count) VALUES (%s, %s, %s, 1)
    ON CONFLICT (action, account, minute) DO UPDATE SET count = r.count + 1 RETURNING count
"""

POP_OLDEST = """
    WITH popped AS (
        DELETE FROM auth.refusals WHERE (action, account, minute) IN (
            SELECT action, account, minute FROM auth.refusals WHERE minute < %s
            ORDER BY minute, account, action LIMIT %s FOR UPDATE SKIP LOCKED
        ) RETURNING action, account, minute, count
    ) SELECT * FROM popped ORDER BY minute, account, action
"""


def increment(action: str, account: str, now: datetime) -> int:
    """Counts one refusal in the current minute and returns the number so far."""
    [counted] = postgres.rows(INCREMENT, action, account, now.replace(second=0, microsecond=0))
    return int(counted["count"])


def pop_before(before: datetime, limit: int) -> Sequence[Refusal]:
    """Deletes and returns the oldest counts of minutes that began before this time."""
    return [Refusal(**row) for row in postgres.rows(POP_OLDEST, before, limit)]
