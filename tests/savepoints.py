"""Savepoints that are sent with the next statement, as the pool sends BEGIN.

A test runs in one transaction, so each transaction of the code under test is a savepoint: two more round trips,
which were a quarter of all statements of the tests. A savepoint without statements is not sent at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import psycopg2.extensions
from psycopg2.errorcodes import SYNTAX_ERROR

from db import postgres
from db.database import Database


@contextmanager
def deferred() -> Iterator[None]:
    """Defers the savepoints of this thread's connection, whose transaction is open, until the block ends."""
    connection = postgres.database.connection()
    assert not connection.unsent_begin
    connection.unsent_savepoints = []
    usual, connection.cursor_factory = connection.cursor_factory, _Cursor
    try:
        yield
    finally:
        del connection.unsent_savepoints
        connection.cursor_factory = usual


class _Cursor(psycopg2.extensions.cursor):
    """Sends what was deferred, then its statement."""

    def execute(self, sql: Any, params: Any = None) -> None:
        unsent: list[str] = self.connection.unsent_savepoints  # type: ignore[attr-defined]
        sent = len(unsent)
        try:
            super().execute("".join([*unsent, sql]), params)
        except psycopg2.Error as error:
            # Of a statement that it cannot parse, or that never reached it, the server did nothing.
            if error.pgcode in (None, SYNTAX_ERROR):
                sent = 0
            raise
        finally:
            del unsent[:sent]


class _Transaction(peewee._savepoint):
    """A savepoint that stands for a transaction, whose last statement is sent when it ends."""

    def commit(self, begin: bool = True) -> None:
        connection: Any = self.db.connection()
        last, connection.unsent_last = connection.unsent_last, None
        if last:
            self.db.execute_sql(*last)
        self._release()
        if begin:
            self._begin()  # type: ignore[attr-defined]

    def rollback(self, begin: bool = True) -> None:
        self.db.connection().unsent_last = None
        super().rollback(begin)

    def _release(self) -> None:
        self.db.execute_sql(f"RELEASE SAVEPOINT {self.quoted_sid};")


class _DeferredTransaction(_Transaction):
    """A savepoint whose SAVEPOINT and RELEASE are deferred. Its rollback is not: it ends an error."""

    def __init__(self, database: peewee.Database, unsent: list[str]) -> None:
        super().__init__(database)
        self._unsent = unsent
        self._start = f"SAVEPOINT {self.quoted_sid};"

    def _begin(self) -> None:
        self._unsent.append(self._start)

    def _release(self) -> None:
        if not self._is_dropped():
            self._unsent.append(f"RELEASE SAVEPOINT {self.quoted_sid};")

    def rollback(self, begin: bool = True) -> None:
        self.db.connection().unsent_last = None
        if not self._is_dropped():
            # All that is unsent belongs to savepoints within this one.
            self._unsent.clear()
            self.db.execute_sql(f"ROLLBACK TO SAVEPOINT {self.quoted_sid};")
        if begin:
            self._begin()

    def _is_dropped(self) -> bool:
        """Drops the savepoint, and those within, if it was not sent; False if it was sent."""
        if self._start not in self._unsent:
            return False
        del self._unsent[self._unsent.index(self._start) :]
        return True


def _savepoint(database: Any) -> Any:
    unsent = getattr(database.connection(), "unsent_savepoints", None)
    return _Transaction(database) if unsent is None else _DeferredTransaction(database, unsent)


Database.savepoint = _savepoint  # type: ignore[assignment, method-assign]
