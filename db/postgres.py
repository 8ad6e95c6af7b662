"""The connection to PostgreSQL: one pool a process, one connection a thread, opened only when asked."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import peewee
import psycopg2.extras
from playhouse.pool import PooledPostgresqlDatabase

# statement_timeout < an actor's time limit < an effect's lease: whoever still works has not been replaced.
_SESSION = (
    "-c statement_timeout=5s -c lock_timeout=3s -c idle_in_transaction_session_timeout=10s -c timezone=UTC"
)

M = TypeVar("M", bound="Model")

psycopg2.extras.register_uuid()

database: peewee.PostgresqlDatabase = PooledPostgresqlDatabase(None, autoconnect=False)

# What peewee raises when the server is away, restarting or out of reach; never for a wrong statement.
Unreachable = (peewee.OperationalError, peewee.InterfaceError)


def open(url: str, *, connections: int) -> None:
    """Names the database and the size of the pool. Connects to nothing."""
    database.init(
        url,
        max_connections=connections,
        timeout=3,
        connect_timeout=3,
        options=_SESSION,
        keepalives_idle=30,
    )


@contextmanager
def connection() -> Iterator[None]:
    """Holds a connection for this thread; inside another `connection()` it is the same one."""
    opened = database.connect(reuse_if_open=True)
    try:
        yield
    finally:
        if opened:
            database.close()


def rows(sql: str, *params: Any) -> list[dict[str, Any]]:
    """Runs one statement; its rows as dicts, empty when it returns none."""
    cursor = database.execute_sql(sql, params)
    if cursor.description is None:
        return []
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def returned(query: Any, model: type[M]) -> list[M]:
    """Runs an INSERT, UPDATE or DELETE; the rows that it touched."""
    return list(query.returning(model).execute())


def lock(name: str) -> None:
    """Waits for the named lock and holds it to the end of the transaction: one writer at a time."""
    database.execute_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))


@contextmanager
def held(name: str) -> Iterator[None]:
    """Holds the named lock as long as the block runs, without a transaction: the world may be asked inside.

    A connection that was lost has lost its lock with it, and is closed by whoever opened it.
    """
    database.execute_sql("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
    try:
        yield
    finally:
        with suppress(*Unreachable):
            database.execute_sql("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


# Column constraints that most tables share. clock_timestamp() and not now(): two changes made in one
# transaction must not share a moment.
NEW_ID: list[peewee.Node] = [peewee.SQL("DEFAULT gen_random_uuid()")]
CLOCK: list[peewee.Node] = [peewee.SQL("DEFAULT clock_timestamp()")]


class Model(peewee.Model):
    """What every table's model shares: the one database."""

    class Meta:
        database = database
