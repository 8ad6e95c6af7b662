"""What was refused or asked for again and again within a minute, counted: nobody floods the audit log."""

from collections.abc import Sequence
from datetime import datetime

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class Refusal(postgres.Model):
    """How often the same was refused at one account in one minute."""

    action = peewee.CharField(50)
    account = peewee.CharField(64)
    minute = DateTimeTZField()
    times = peewee.IntegerField()

    class Meta:
        schema = "auth"
        table_name = "refusals"
        primary_key = peewee.CompositeKey("action", "account", "minute")


def increment(action: str, account: str, now: datetime) -> int:
    """Counts one more in this minute; how many there are by now."""
    [counted] = postgres.rows(
        "INSERT INTO auth.refusals AS r (action, account, minute, times) VALUES (%s, %s, %s, 1)"
        " ON CONFLICT (action, account, minute) DO UPDATE SET times = r.times + 1 RETURNING times",
        action,
        account,
        now.replace(second=0, microsecond=0),
    )
    return int(counted["times"])


def pop_before(before: datetime, limit: int) -> Sequence[Refusal]:
    """Removes the oldest counts of minutes that began before this moment, and hands them over."""
    rows = postgres.rows(
        "WITH taken AS (DELETE FROM auth.refusals WHERE (action, account, minute) IN"
        " (SELECT action, account, minute FROM auth.refusals WHERE minute < %s"
        " ORDER BY minute, account, action LIMIT %s FOR UPDATE SKIP LOCKED)"
        " RETURNING action, account, minute, times) SELECT * FROM taken ORDER BY minute, account, action",
        before,
        limit,
    )
    return [Refusal(**row) for row in rows]
