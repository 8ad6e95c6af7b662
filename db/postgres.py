"""The database: one connection a thread, acquired from the process's pool, and the ways to run statements.

Every transaction takes its locks in one order: docs/decisions/0020-one-order-of-locks.md.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from uuid import UUID, SafeUUID

import peewee
import psycopg2
import psycopg2.extensions
import psycopg2.extras
from pydantic_core import from_json, to_json

from db import pool
from db.pool import RESPONSE_TIMEOUT_S, STATEMENT_MARGIN_S, Connection, Pool, wait_for_response
from db.prepared import Statement

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound="Model")


def _read_uuid(text: Any, _cursor: object) -> UUID | None:
    """Does what psycopg2's reader does in half the time: the server's text needs no check."""
    if text is None:
        return None
    value = object.__new__(UUID)
    object.__setattr__(value, "int", int(text.replace("-", ""), 16))
    object.__setattr__(value, "is_safe", SafeUUID.unknown)
    return value


psycopg2.extras.register_uuid()
_UUID: Any = psycopg2.extensions.new_type((2950,), "UUID", _read_uuid)
psycopg2.extensions.register_type(_UUID)
psycopg2.extensions.register_type(psycopg2.extensions.new_array_type((2951,), "UUID[]", _UUID))
# A tenth of the time of `json`.
psycopg2.extras.register_default_jsonb(globally=True, loads=from_json)

DatabaseUnavailable = pool.DatabaseUnavailable

# Errors after which a retry of the same work may succeed: the database is unavailable, or did not get to the
# statement in time (a lock, a deadlock). An error in a statement is none of these.
TRANSIENT_ERRORS = (peewee.OperationalError, peewee.InterfaceError)

# SQLSTATEs of an unavailable server: read-only (a full disk, a failover), and the classes 08 (connection),
# 53 (out of connections, disk or memory), 57P (shutdown, startup), 58 (I/O). The class of the exception does
# not tell: 25006 is an InternalError.
_UNAVAILABLE_SQLSTATES = ("25006", "08", "53", "57P", "58")
_READ_ONLY_SQLSTATE = "25006"
_QUERY_CANCELED_SQLSTATE = "57014"
# The columns of a prepared statement's result have changed, or the session has discarded the statement.
_OUTDATED_SQLSTATES = ("0A000", "26000")


class Json(psycopg2.extras.Json):
    """A parameter that is written as JSON, also ids, times and amounts; in a tenth of the time of `json`."""

    def dumps(self, value: Any) -> str:
        return to_json(value).decode()


class StatementOutdated(peewee.OperationalError):
    """A prepared statement became invalid inside a transaction, which is lost. A retry may succeed."""


class Database(peewee.PostgresqlDatabase):
    """A peewee database on Paywright's own pool.

    peewee's pool connects, and runs SELECT 1 before each use, under one lock for all threads.
    """

    pool: Pool | None = None

    def __init__(self) -> None:
        super().__init__(None, autoconnect=False)
        self._thread: Any = cast(Any, self)._state

    def configure(self, url: str, *, connections: int) -> None:
        """Sets the database's URL and the size of the pool, without connecting."""
        psycopg2.extensions.set_wait_callback(wait_for_response)
        self.init(url)
        if self.pool is not None:
            self.pool.invalidate()
        self.pool = Pool(url, connections)

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Acquires a connection for this thread; False if it has one. Raises DatabaseUnavailable."""
        if not self._thread.closed:
            if reuse_if_open:
                return False
            raise peewee.OperationalError("this thread has a connection already")
        if self.pool is None:
            raise peewee.InterfaceError(
                "the entry point of this process must call postgres.configure() first"
            )
        self._thread.set_connection(self.pool.acquire())
        return True

    def close(self) -> bool:
        """Releases this thread's connection; False if it has none."""
        if self._thread.closed:
            return False
        if self.in_transaction():
            raise peewee.OperationalError("a transaction is open: commit it or roll it back first")
        connection: Connection = self._thread.conn
        self._thread.reset()
        assert connection.pool
        connection.pool.release(connection)
        return True

    def dispose(self) -> None:
        """Drops all connections without closing them: in a forked process they belong to its parent."""
        self._thread.reset()
        self.pool = self.pool and Pool(self.pool.url, self.pool.size)

    def begin(self, isolation_level: str | None = None) -> None:
        """Begins a transaction, and sets its timeouts where the session has none."""
        level = f" ISOLATION LEVEL {isolation_level}" if isolation_level else ""
        if self._thread.closed:
            raise peewee.InterfaceError("this thread has no connection: open one with connection()")
        connection: Connection = self._thread.conn
        # Sent with the first statement, in one round trip.
        connection.unsent_begin = f"BEGIN{level}{connection.local_timeouts}"
        self.set_response_timeout(RESPONSE_TIMEOUT_S)

    def set_response_timeout(self, seconds: float) -> None:
        """Sets how long to wait for each response of the server, until the end of the transaction."""
        self._thread.conn.response_timeout_s = seconds

    def commit(self) -> None:
        if not self._was_never_begun():
            self._run("COMMIT")

    def rollback(self) -> None:
        """Rolls the transaction back, unless the connection is lost: then the server does."""
        if not self._was_never_begun() and (self._thread.closed or not self._thread.conn.closed):
            self._run("ROLLBACK")

    def _was_never_begun(self) -> bool:
        """Ends a transaction of which the server knows nothing; False if it knows the transaction."""
        connection: Connection | None = self._thread.conn
        if connection is None or not (connection.unsent_begin or connection.committed):
            return False
        connection.unsent_begin, connection.committed = "", False
        return True

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Runs one statement and returns its cursor. Raises DatabaseUnavailable, or peewee's error."""
        connection: Connection | None = self._thread.conn
        begun = connection and (connection.unsent_begin or not connection.is_idle())
        if connection and connection.local_timeouts and not begun:
            # Behind PgBouncer a session has no timeouts: only a transaction can have them.
            with self.atomic():
                return self._run(sql, params)
        return self._run(sql, params)

    def execute_prepared(self, statement: Statement, params: Mapping[str, Any]) -> Any:
        """Runs a statement, prepared where the session is this connection's alone; returns its cursor.

        Raises DatabaseUnavailable, StatementOutdated, or peewee's error.
        """
        connection: Connection | None = self._thread.conn
        if connection is None or not connection.owns_session:
            return self.execute_sql(statement.plain, params)
        try:
            return self._run_prepared(statement, params, connection)
        except peewee.PeeweeException as error:
            if sqlstate(error) not in _OUTDATED_SQLSTATES:
                raise
            if not connection.is_idle():
                # The other connections have prepared the same statements.
                if connection.pool:
                    connection.pool.invalidate()
                raise StatementOutdated(getattr(error, "orig", error), *error.args) from error
        self._run("DEALLOCATE ALL")
        connection.prepared.clear()
        return self._run_prepared(statement, params, connection)

    def execute_last(self, statement: Statement, params: Mapping[str, Any]) -> Any:
        """Runs the last statement of the open transaction, as `execute_prepared` does.

        If it is also the first one, it needs neither BEGIN nor COMMIT: it commits by itself.
        """
        connection: Connection = self._thread.conn
        if not connection.unsent_begin or connection.local_timeouts:
            return self.execute_prepared(statement, params)
        connection.unsent_begin = ""
        try:
            return self.execute_prepared(statement, params)
        finally:
            connection.committed = True

    def _run_prepared(self, statement: Statement, params: Mapping[str, Any], connection: Connection) -> Any:
        if statement.name not in connection.prepared:
            # Apart from the execution: when that fails, the statement stays prepared.
            self._run(statement.prepare)
            connection.prepared.add(statement.name)
        return self._run(statement.execute, params)

    def _run(self, sql: str, params: Any = None) -> Any:
        connection: Connection | None = self._thread.conn
        if connection and connection.committed:
            raise RuntimeError("a statement follows the last one of the transaction")
        if connection and connection.unsent_begin:
            sql, connection.unsent_begin = f"{connection.unsent_begin}; {sql}", ""
        try:
            return cast(Any, super()).execute_sql(sql, params)
        except peewee.PeeweeException as error:
            state = sqlstate(error) or ""
            if connection is None or not (connection.closed or state.startswith(_UNAVAILABLE_SQLSTATES)):
                raise
            connection.unusable = True
            if state == _READ_ONLY_SQLSTATE and connection.pool:
                # The other connections lead to the same server.
                connection.pool.invalidate()
            raise DatabaseUnavailable(getattr(error, "orig", error), *error.args) from error


database = Database()
configure = database.configure


def is_timeout(error: BaseException) -> bool:
    """Tells whether an error means that a statement exceeded its own time limit."""
    return sqlstate(error) == _QUERY_CANCELED_SQLSTATE


def sqlstate(error: BaseException) -> str | None:
    """Returns the server's SQLSTATE for an error; None if the error did not come from the server."""
    return getattr(getattr(error, "orig", None), "pgcode", None)


@contextmanager
def connection() -> Iterator[None]:
    """Acquires a connection for this thread; a nested `connection()` uses the same one."""
    acquired = database.connect(reuse_if_open=True)
    try:
        yield
    finally:
        if acquired:
            database.close()


def rows(sql: str | Statement, /, *params: Any, **named: Any) -> list[dict[str, Any]]:
    """Runs a statement with positional or named parameters, and returns its rows as dicts."""
    if isinstance(sql, Statement):
        return _fetched(database.execute_prepared(sql, named))
    return _fetched(database.execute_sql(sql, named or params))


def last_rows(statement: Statement, **named: Any) -> list[dict[str, Any]]:
    """Runs the last statement of the open transaction, and returns its rows as dicts."""
    return _fetched(database.execute_last(statement, named))


def _fetched(cursor: Any) -> list[dict[str, Any]]:
    if cursor.description is None:
        return []
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def first(record: Callable[..., T], sql: str | Statement, /, *params: Any, **named: Any) -> T | None:
    """Runs a statement, and returns the record made of the columns of its first row; None without a row."""
    found = rows(sql, *params, **named)
    return record(**found[0]) if found else None


def value(sql: str | Statement, /, *params: Any, **named: Any) -> Any:
    """Runs a statement, and returns the first column of its first row; None without a row."""
    found = rows(sql, *params, **named)
    return next(iter(found[0].values())) if found else None


def set_statement_timeout(seconds: float) -> None:
    """Sets how long each statement may take, until the end of the transaction."""
    rows("SELECT set_config('statement_timeout', %s, true)", f"{seconds}s")
    database.set_response_timeout(seconds + STATEMENT_MARGIN_S)


def stream(sql: str, *params: Any, seconds: float, **named: Any) -> Iterator[dict[str, Any]]:
    """Runs a query and yields its rows, fetched a thousand at a time.

    A transaction stays open meanwhile. Each thousand may take this many seconds.
    """
    with database.atomic():
        set_statement_timeout(seconds)
        rows(f"DECLARE stream NO SCROLL CURSOR FOR {sql}", *params, **named)
        while fetched := rows("FETCH 1000 FROM stream"):
            yield from fetched
        rows("CLOSE stream")


def execute_returning(query: Any, model: type[ModelT]) -> list[ModelT]:
    """Runs an INSERT, UPDATE or DELETE and returns the affected rows."""
    return list(query.returning(model).execute())


def delete(model: "type[Model]") -> Any:
    """Returns a DELETE from the table, to be narrowed by `where`. peewee's stubs reject `delete()`."""
    return cast(Any, model).delete()


def check_writable() -> None:
    """Updates a row, unless another transaction is doing so: a database that answers reads may refuse writes.

    Waits for no lock. Raises TRANSIENT_ERRORS.
    """
    rows(
        "UPDATE journal.health_check SET written_at = clock_timestamp() WHERE one IN"
        " (SELECT one FROM journal.health_check FOR NO KEY UPDATE SKIP LOCKED)"
    )


def try_advisory_lock(name: str) -> bool:
    """Acquires the named lock until the end of the transaction; False if another transaction has the lock."""
    return bool(value("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", name))


# The lock of a row that changes. No key ever changes, so inserting a row that refers to this one needs no
# wait.
NO_KEY_UPDATE: Any = "FOR NO KEY UPDATE"
# The lock of rows to delete, without those that another transaction has locked.
DELETE_UNLOCKED: Any = "FOR UPDATE SKIP LOCKED"


class AnyDecimal(peewee.DecimalField):
    """A number of any precision, never rounded."""

    def get_modifiers(self) -> list[int]:
        return []


class _TableInClassLine(peewee.ModelBase):
    """Takes peewee's Meta options from the class line: `class User(Model, table="auth.users")`."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any], table: str = "", **options: Any
    ) -> Any:
        if table:
            options["schema"], options["table_name"] = table.split(".")
        return cast(Any, super()).__new__(cls, name, bases, {**attrs, "Meta": type("Meta", (), options)})


class Model(peewee.Model, metaclass=_TableInClassLine, database=database):
    """The base class of all tables, on the one database."""
