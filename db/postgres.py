"""The database: one connection a thread, acquired from the process's pool, and the ways to run statements.

Every transaction takes its locks in one order: docs/decisions/0020-one-order-of-locks.md.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from uuid import UUID, SafeUUID

import peewee
import psycopg2.extensions
import psycopg2.extras
from pydantic_core import from_json, to_json

from db import pool
from db.database import Database, sqlstate
from db.pool import STATEMENT_MARGIN_S
from db.prepared import Statement

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound="Model")


def _read_uuid(text: Any, _cursor: object) -> UUID | None:
    """Reads a UUID in half the time of psycopg2's reader: the server's text needs no check."""
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
# Takes a tenth of the time of `json`.
psycopg2.extras.register_default_jsonb(globally=True, loads=from_json)

DatabaseUnavailable = pool.DatabaseUnavailable

# Errors after which a retry of the same work may succeed: the database is unavailable, or a statement has
# waited too long for a lock, or in a deadlock. An error in a statement is none of these.
TRANSIENT_ERRORS = (peewee.OperationalError, peewee.InterfaceError)

_QUERY_CANCELED_SQLSTATE = "57014"


class Json(psycopg2.extras.Json):
    """A parameter that is written as JSON, in a tenth of the time of `json`; may have ids, times, amounts."""

    def dumps(self, value: Any) -> str:
        return to_json(value).decode()


database = Database()
configure = database.configure


def is_timeout(error: BaseException) -> bool:
    """Returns whether an error means that a statement exceeded its own time limit."""
    return sqlstate(error) == _QUERY_CANCELED_SQLSTATE


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


def stream(sql: str, *, seconds: float, **named: Any) -> Iterator[dict[str, Any]]:
    """Runs a query and yields its rows, fetched a thousand at a time.

    A transaction stays open meanwhile. Fetching a thousand rows may take `seconds`.
    """
    with database.atomic():
        set_statement_timeout(seconds)
        rows(f"DECLARE stream NO SCROLL CURSOR FOR {sql}", **named)
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


# The lock of a row that changes. It lets others insert rows that refer to this one, because no key ever
# changes.
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
