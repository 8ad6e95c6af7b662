"""Migrations: the numbered SQL files of `migrations/`, applied once each, in a transaction each.

`python -m api.cli migrate` applies new migrations to the database of DATABASE_URL. None is ever edited.
"""

import hashlib
from pathlib import Path
from typing import Any

import psycopg2

from db.pool import DatabaseUnavailable

DIRECTORY = Path(__file__).with_name("migrations")

_HISTORY = """
    CREATE TABLE IF NOT EXISTS public.migrations (
        name text PRIMARY KEY,
        sha256 text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


# One process migrates, the others wait for its lock. The lock is one of the transaction: a session lock would
# stay with the server session that a pooler has assigned. The timeouts of the role, which are meant for
# requests, are turned off.
_LOCK = """
    BEGIN;
    SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL lock_timeout = 0;
    SELECT pg_advisory_xact_lock(hashtextextended('paywright.migrations', 0))
"""


class EditedMigration(Exception):
    """A migration was changed after it was applied. Write a new one instead."""


def up(url: str) -> list[str]:
    """Applies the new migrations in order and returns their names.

    Raises EditedMigration before it applies any, and DatabaseUnavailable. Several processes may call this at
    the same time: one migrates, the others wait and apply nothing.
    """
    files = sorted(DIRECTORY.glob("[0-9]*.sql"))
    try:
        connection = psycopg2.connect(url, connect_timeout=10)
    except psycopg2.OperationalError as error:
        raise DatabaseUnavailable(str(error).strip()) from None
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK)
            cursor.execute(_HISTORY)
            cursor.execute("SELECT name, sha256 FROM public.migrations")
            applied = dict(cursor.fetchall())
            cursor.execute("COMMIT")
            edited = [file.name for file in files if applied.get(file.name, _sha256(file)) != _sha256(file)]
            if edited:
                raise EditedMigration(
                    f"{', '.join(edited)} changed after it was applied: write a new migration instead"
                )
            new = [file for file in files if file.name not in applied and _apply(cursor, file)]
            return [file.name for file in new]
    finally:
        connection.close()


def _apply(cursor: Any, file: Path) -> bool:
    """Applies a migration and returns True, or False if another process has applied it meanwhile."""
    cursor.execute(_LOCK)
    cursor.execute("SELECT FROM public.migrations WHERE name = %s", (file.name,))
    is_new = not cursor.rowcount
    if is_new:
        # A migration that waits for the lock of a table blocks all statements after it. So it fails soon
        # instead, and can be run again.
        cursor.execute("SET LOCAL lock_timeout = '10s'")
        cursor.execute(file.read_text())
        cursor.execute(
            "INSERT INTO public.migrations (name, sha256) VALUES (%s, %s)", (file.name, _sha256(file))
        )
    cursor.execute("COMMIT")
    return is_new


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
