"""Migrations: the numbered SQL files of `migrations/`, each in one transaction, each once, none ever edited.

`python -m db.migrate` brings the database that DATABASE_URL names up to date.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import psycopg2

from db.core.settings import StoreSettings
from db.core.startup import read_or_exit

DIRECTORY = Path(__file__).with_name("migrations")

_HISTORY = """
    CREATE TABLE IF NOT EXISTS public.migrations (
        name text PRIMARY KEY,
        sha256 text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
"""


# One migrates, the others wait: to the end of the transaction, for a session's lock would stay with whatever
# session a pooler gave us. The role's own time limits are for requests.
_ALONE = """
    BEGIN;
    SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL lock_timeout = 0;
    SELECT pg_advisory_xact_lock(hashtextextended('paywright.migrations', 0))
"""


class EditedMigration(Exception):
    """A migration was changed after it was applied: write a new one instead."""


def up(url: str) -> list[str]:
    """Applies what is new, in order; returns the names. Raises Edited, having applied nothing.

    Any number of processes may call it at once: one migrates, the others wait and find nothing to do.
    """
    files = sorted(DIRECTORY.glob("[0-9]*.sql"))
    connection = psycopg2.connect(url, connect_timeout=10)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(_ALONE)
            cursor.execute(_HISTORY)
            cursor.execute("SELECT name, sha256 FROM public.migrations")
            applied = dict(cursor.fetchall())
            cursor.execute("COMMIT")
            edited = [file.name for file in files if applied.get(file.name, _sum(file)) != _sum(file)]
            if edited:
                raise EditedMigration(
                    f"{', '.join(edited)} changed after it was applied: write a new migration instead"
                )
            new = [file for file in files if file.name not in applied and _apply(cursor, file)]
            return [file.name for file in new]
    finally:
        connection.close()


def _apply(cursor: Any, file: Path) -> bool:
    """Applies one; whether another process had not done so meanwhile."""
    cursor.execute(_ALONE)
    cursor.execute("SELECT FROM public.migrations WHERE name = %s", (file.name,))
    new = not cursor.rowcount
    if new:
        # A migration waits for a busy table only so long: better to fail and be tried again than to queue
        # every other statement behind it.
        cursor.execute("SET LOCAL lock_timeout = '10s'")
        cursor.execute(file.read_text())
        cursor.execute(
            "INSERT INTO public.migrations (name, sha256) VALUES (%s, %s)", (file.name, _sum(file))
        )
    cursor.execute("COMMIT")
    return new


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    for name in up(read_or_exit(StoreSettings).database_url):
        sys.stdout.write(f"applied {name}\n")
