"""What /health writes: a database that answers questions may still refuse to write."""

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class HealthCheck(postgres.Model):
    """The one row of it."""

    one = peewee.BooleanField(primary_key=True, constraints=[SQL("DEFAULT true"), SQL("CHECK (one)")])
    written_at = DateTimeTZField(constraints=postgres.CLOCK)

    class Meta:
        schema = "journal"
        table_name = "health_check"


def write() -> None:
    """Writes a trifle, without waiting for another who does. Raises postgres.TRANSIENT_ERRORS."""
    postgres.rows(
        "UPDATE journal.health_check SET written_at = clock_timestamp() WHERE one IN"
        " (SELECT one FROM journal.health_check FOR NO KEY UPDATE SKIP LOCKED)"
    )
