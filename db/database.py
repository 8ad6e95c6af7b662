"""The peewee database on Paywright's own pool: begins and ends transactions, and classifies errors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import peewee
import psycopg2.extensions

from db.pool import RESPONSE_TIMEOUT_S, Connection, DatabaseUnavailable, Pool, wait_for_response
from db.prepared import BY_INDEX, Statement

# SQLSTATEs of an unavailable server: read-only (a full disk, a failover), and the classes 08 (connection),
# 53 (out of connections, disk or memory), 57P (shutdown, startup), 58 (I/O). The class of the exception does
# not tell: 25006 is an InternalError.
_UNAVAILABLE_SQLSTATES = ("25006", "08", "53", "57P", "58")
_READ_ONLY_SQLSTATE = "25006"
# The columns of a prepared statement's result have changed, or the session has discarded the statement.
_OUTDATED_SQLSTATES = ("0A000", "26000")


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
        connection.by_index, connection.unsent_last = False, None
        self.set_response_timeout(RESPONSE_TIMEOUT_S)

    def set_response_timeout(self, seconds: float) -> None:
        """Sets how long to wait for each response of the server, until the end of the transaction."""
        self._thread.conn.response_timeout_s = seconds

    def commit(self) -> None:
        """Commits the transaction, together with the statement of `execute_with_commit` if there is one."""
        connection: Connection | None = self._thread.conn
        if connection and connection.unsent_last:
            (sql, params), connection.unsent_last = connection.unsent_last, None
            # The server's statement_timeout counts anew for the COMMIT.
            self.set_response_timeout(connection.response_timeout_s + RESPONSE_TIMEOUT_S)
            with self._outdated_reported(connection):
                self._run(f"{sql}; COMMIT", params)
        elif not self._was_never_begun():
            self._run("COMMIT")

    def rollback(self) -> None:
        """Rolls the transaction back, unless the connection is lost: then the server does."""
        if self._thread.conn:
            self._thread.conn.unsent_last = None
        if not self._was_never_begun() and (self._thread.closed or not self._thread.conn.closed):
            self._run("ROLLBACK")

    def _was_never_begun(self) -> bool:
        """Ends a transaction that needs no COMMIT or ROLLBACK; returns False if the server has one to end.

        None is needed if no statement was sent, or if the only statement has committed by itself.
        """
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
            with self._outdated_reported(connection):
                return self._run(self._prepared(statement, connection), params)
        except StatementOutdated:
            if not connection.is_idle():
                raise
        self._run("DEALLOCATE ALL")
        connection.prepared.clear()
        return self._run(self._prepared(statement, connection), params)

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

    def execute_with_commit(self, statement: Statement, params: Mapping[str, Any]) -> None:
        """Keeps a statement, which is then sent with the COMMIT of the open transaction, in one round trip.

        Its rows are not read. Its errors are raised by the commit.
        """
        connection: Connection = self._thread.conn
        sql = self._prepared(statement, connection) if connection.owns_session else statement.plain
        connection.unsent_last = (sql, params)

    def _prepared(self, statement: Statement, connection: Connection) -> str:
        """Prepares a statement if the session has not; returns the SQL that executes it."""
        if statement.name not in connection.prepared:
            # Sent before the execution: if that fails, the statement stays prepared.
            self._run(statement.prepare)
            connection.prepared.add(statement.name)
        if not statement.by_index or (self.in_transaction() and connection.by_index):
            return statement.execute
        connection.by_index = True
        return f"{BY_INDEX}; {statement.execute}"

    @contextmanager
    def _outdated_reported(self, connection: Connection) -> Iterator[None]:
        """Raises StatementOutdated instead of the server's error about an invalid prepared statement."""
        try:
            yield
        except peewee.PeeweeException as error:
            if sqlstate(error) not in _OUTDATED_SQLSTATES:
                raise
            if not connection.is_idle() and connection.pool:
                # The other connections have prepared the same statements.
                connection.pool.invalidate()
            raise StatementOutdated(getattr(error, "orig", error), *error.args) from error

    def _run(self, sql: str, params: Any = None) -> Any:
        """Runs SQL, after an unsent BEGIN. Raises DatabaseUnavailable where the error shows that."""
        connection: Connection | None = self._thread.conn
        if connection and (connection.committed or connection.unsent_last):
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


def sqlstate(error: BaseException) -> str | None:
    """Returns the server's SQLSTATE for an error; None if the error did not come from the server."""
    return getattr(getattr(error, "orig", None), "pgcode", None)
