"""The connection to PostgreSQL: one pool a process, one connection a thread, opened only when asked.

Every transaction takes its locks in one order: docs/decisions/0020-one-order-of-locks.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import peewee
import psycopg2.extras
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase

# statement_timeout < an actor's time limit < an effect's lease: whoever still works has not been replaced.
_SESSION = (
    "-c statement_timeout=5s -c lock_timeout=3s -c idle_in_transaction_session_timeout=10s -c timezone=UTC"
)

M = TypeVar("M", bound="Model")

psycopg2.extras.register_uuid()

database: peewee.PostgresqlDatabase = PooledPostgresqlDatabase(None, autoconnect=False)

# What is raised when the server is away, or does not get to it in time (a lock, a deadlock, a full pool):
# worth another try as it is. A wrong statement is none of these.
Unreachable = (peewee.OperationalError, peewee.InterfaceError, MaxConnectionsExceeded)


def open(url: str, *, connections: int) -> None:
    """Names the database and the size of the pool. Connects to nothing."""
    database.init(
        url,
        max_connections=connections,
        timeout=3,
        connect_timeout=3,
        options=_SESSION,
        keepalives_idle=30,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=8000,
    )


def away(error: BaseException) -> bool:
    """Whether the server itself is out of reach: no SQLSTATE, or one of class 08, 57P or 53."""
    state = sqlstate(error)
    return isinstance(error, Unreachable) and (state is None or state.startswith(("08", "57P", "53")))


def too_slow(error: BaseException) -> bool:
    """Whether a statement of ours took longer than it may: that is its own fault, and no other's."""
    return sqlstate(error) == "57014"


def sqlstate(error: BaseException) -> str | None:
    """The server's code for an error; None when it did not come from the server."""
    return getattr(getattr(error, "orig", None), "pgcode", None)


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


def patient(seconds: float) -> None:
    """Lets statements take so long, to the end of the transaction."""
    rows("SELECT set_config('statement_timeout', %s, true)", f"{seconds}s")


def stream(sql: str, *params: Any, seconds: float) -> Iterator[dict[str, Any]]:
    """Runs one query, in a transaction as long as it is read, and hands its rows over a thousand at a time;
    each thousand may take so many seconds."""
    with database.atomic():
        patient(seconds)
        rows(f"DECLARE stream NO SCROLL CURSOR FOR {sql}", *params)
        while some := rows("FETCH 1000 FROM stream"):
            yield from some
        rows("CLOSE stream")


def returned(query: Any, model: type[M]) -> list[M]:
    """Runs an INSERT, UPDATE or DELETE; the rows that it touched."""
    return list(query.returning(model).execute())


def delete(model: "type[Model]") -> Any:
    """A DELETE from the model's table, to be narrowed down: peewee's stubs stumble over it."""
    return cast(Any, model).delete()


def lock(name: str) -> bool:
    """Takes the named lock to the end of the transaction, one writer at a time; False when another has it."""
    [taken] = rows("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0)) AS mine", name)
    return bool(taken["mine"])


# Column constraints that most tables share. clock_timestamp() and not now(): two changes made in one
# transaction must not share a moment.
NEW_ID: list[peewee.Node] = [peewee.SQL("DEFAULT gen_random_uuid()")]
CLOCK: list[peewee.Node] = [peewee.SQL("DEFAULT clock_timestamp()")]


# The lock of a row that changes: no key of ours ever changes, so a row that refers to this one is inserted
# meanwhile without waiting.
NO_KEY_UPDATE: Any = "FOR NO KEY UPDATE"
# The lock of rows that are to be deleted, as far as nobody uses them just now.
FREE_TO_DELETE: Any = "FOR UPDATE SKIP LOCKED"


class Model(peewee.Model):
    """What every table's model shares: the one database."""

    class Meta:
        database = database
