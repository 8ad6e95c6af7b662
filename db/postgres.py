"""The connection to PostgreSQL: one a thread, taken from the pool of its process when it is asked for.

Every transaction takes its locks in one order: docs/decisions/0020-one-order-of-locks.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import peewee
import psycopg2
import psycopg2.extensions
import psycopg2.extras

from db import pool
from db.pool import RESPONSE_TIMEOUT_S, STATEMENT_MARGIN_S, Connection, Pool, wait_for_response

ModelT = TypeVar("ModelT", bound="Model")

psycopg2.extras.register_uuid()

DatabaseUnavailable = pool.DatabaseUnavailable

# What is raised when the database is away (`Away`), or does not get to it in time (a lock, a deadlock): worth
# another try as it is. A wrong statement is none of these.
TRANSIENT_ERRORS = (peewee.OperationalError, peewee.InterfaceError)

# The SQLSTATEs by which a server says that it is away: read-only (a full disk, a failover); and of classes 08
# (connection), 53 (no connection, disk or memory left), 57P (shutting down, starting up), 58 (I/O).
# A class of exceptions does not say it: 25006 is an InternalError.
_UNAVAILABLE_SQLSTATES = ("25006", "08", "53", "57P", "58")


class Database(peewee.PostgresqlDatabase):
    """peewee's database on a pool of our own: peewee's connects, and asks SELECT 1 before each use, under one
    lock for all threads."""

    pool: Pool | None = None

    def __init__(self) -> None:
        super().__init__(None, autoconnect=False)
        self._thread: Any = cast(Any, self)._state

    def open(self, url: str, *, connections: int) -> None:
        """Names the database and the size of the pool. Connects to nothing."""
        psycopg2.extensions.set_wait_callback(wait_for_response)
        self.init(url)
        if self.pool is not None:
            self.pool.forget()
        self.pool = Pool(url, connections)

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Takes a connection for this thread; whether it had none. Raises Away."""
        if not self._thread.closed:
            if reuse_if_open:
                return False
            raise peewee.OperationalError("this thread has a connection already")
        if self.pool is None:
            raise peewee.InterfaceError("postgres.open() was not called by this process's entry point")
        self._thread.set_connection(self.pool.take())
        return True

    def close(self) -> bool:
        """Gives this thread's connection back; whether it had one."""
        if self._thread.closed:
            return False
        if self.in_transaction():
            raise peewee.OperationalError("a transaction is open")
        connection: Connection = self._thread.conn
        self._thread.reset()
        assert connection.pool
        connection.pool.give(connection)
        return True

    def dispose(self) -> None:
        """Forgets every connection without closing it: in a forked process they are its parent's."""
        self._thread.reset()
        self.pool = self.pool and self.pool.anew()

    def begin(self, isolation_level: str | None = None) -> None:
        """Begins a transaction, with its time limits where the session has none."""
        level = f" ISOLATION LEVEL {isolation_level}" if isolation_level else ""
        local = "" if self._thread.closed else self._thread.conn.local_limits
        self._run(f"BEGIN{level}{local}")
        self.allow(RESPONSE_TIMEOUT_S)

    def allow(self, seconds: float) -> None:
        """Waits so long for each answer of the server, to the end of the transaction."""
        self._thread.conn.limit_s = seconds

    def commit(self) -> None:
        """Commits."""
        self._run("COMMIT")

    def rollback(self) -> None:
        """Rolls back; a connection that is lost has done so already."""
        if self._thread.closed or not self._thread.conn.closed:
            self._run("ROLLBACK")

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Runs one statement; its cursor. Raises Away where that is why it fails."""
        connection: Connection | None = self._thread.conn
        if connection is None or not connection.local_limits or _in_transaction(connection):
            return self._run(sql, params)
        # A session behind PgBouncer: only a transaction has time limits.
        with self.atomic():
            return self._run(sql, params)

    def _run(self, sql: str, params: Any = None) -> Any:
        try:
            return cast(Any, super()).execute_sql(sql, params)
        except peewee.PeeweeException as error:
            connection: Connection | None = self._thread.conn
            if connection is None or not _is_away(error, connection):
                raise
            connection.unfit = True
            if sqlstate(error) == "25006" and connection.pool:
                # So are the others.
                connection.pool.forget()
            raise DatabaseUnavailable(getattr(error, "orig", error), *error.args) from error


def _is_away(error: peewee.PeeweeException, connection: Connection) -> bool:
    return bool(connection.closed) or (sqlstate(error) or "").startswith(_UNAVAILABLE_SQLSTATES)


def _in_transaction(connection: Connection) -> bool:
    idle = psycopg2.extensions.TRANSACTION_STATUS_IDLE
    return bool(connection.closed) or connection.get_transaction_status() != idle


database = Database()
configure = database.open


def is_unavailable(error: BaseException) -> bool:
    """Whether the database itself is away, which is nobody's fault here."""
    return isinstance(error, DatabaseUnavailable)


def is_timeout(error: BaseException) -> bool:
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


def set_statement_timeout(seconds: float) -> None:
    """Lets statements take so long, to the end of the transaction."""
    rows("SELECT set_config('statement_timeout', %s, true)", f"{seconds}s")
    database.allow(seconds + STATEMENT_MARGIN_S)


def stream(sql: str, *params: Any, seconds: float) -> Iterator[dict[str, Any]]:
    """Runs one query, in a transaction as long as it is read, and hands its rows over a thousand at a time;
    each thousand may take so many seconds."""
    with database.atomic():
        set_statement_timeout(seconds)
        rows(f"DECLARE stream NO SCROLL CURSOR FOR {sql}", *params)
        while some := rows("FETCH 1000 FROM stream"):
            yield from some
        rows("CLOSE stream")


def execute_returning(query: Any, model: type[ModelT]) -> list[ModelT]:
    """Runs an INSERT, UPDATE or DELETE; the rows that it touched."""
    return list(query.returning(model).execute())


def delete(model: "type[Model]") -> Any:
    """A DELETE from the model's table, to be narrowed down: peewee's stubs stumble over it."""
    return cast(Any, model).delete()


def try_advisory_lock(name: str) -> bool:
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


class AnyDecimal(peewee.DecimalField):
    """A number with as many digits as it has, never rounded."""

    def get_modifiers(self) -> list[int]:
        """No precision and no scale."""
        return []


class Model(peewee.Model):
    """What every table's model shares: the one database."""

    class Meta:
        database = database
