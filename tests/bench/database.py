"""What PostgreSQL counts: statements, transactions, WAL, and what is left to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2

from tests.makers import until
from workers import scheduler

# Periodic jobs come and go by the clock: they do not belong to any payment.
PERIODIC = tuple(job.name for job in scheduler.JOBS)
# The events that lead to a mail.
MAILED = ("payments:payment:completed", "payments:payment:failed")
COUNTERS = """
SELECT /* bench */ (pg_current_wal_insert_lsn() - '0/0')::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint
"""
STATEMENTS = """
SELECT s.calls, s.total_exec_time, s.query FROM pg_stat_statements s
 WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND s.query NOT LIKE '%/* bench */%' AND s.query NOT LIKE '%pg_stat_statements%' ORDER BY s.total_exec_time DESC
"""
# A flushed position: what is not yet written cannot be read.
POSITION = "SELECT /* bench */ pg_current_wal_flush_lsn()"
# The bytes of WAL by table; those of its indexes count for it. A record that names several blocks is shared by them.
WAL_BY_TABLE = """
SELECT coalesce(owner.relname, c.relname, 'other databases'), sum(b.bytes)::bigint
  FROM (SELECT relfilenode, record_length::float / count(*) OVER (PARTITION BY start_lsn) AS bytes
          FROM pg_get_wal_block_info(%s, %s)) AS b
  LEFT JOIN pg_class AS c ON pg_relation_filenode(c.oid) = b.relfilenode
  LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
  LEFT JOIN pg_class AS owner ON owner.oid = i.indrelid OR owner.reltoastrelid = c.oid
 GROUP BY 1 ORDER BY 2 DESC
"""
UNENDED = "SELECT /* bench */ count(*) FROM payments.payments WHERE type = 'payment' AND status IN ('pending', 'processing')"
UNDONE = """
SELECT /* bench */ (SELECT count(*) FROM journal.jobs WHERE dead_at IS NULL AND name <> ALL (%s))
     + (SELECT count(*) FROM admin.events AS event JOIN admin.subscriptions AS mails ON event.seq > mails.seq
         WHERE mails.name = 'subscribers.payment_mails' AND event.type = ANY (%s))
"""
# What each payment must have left behind at its end: rows by table.
RECORDS = """
SELECT (SELECT /* bench */ count(*) FROM payments.payments WHERE type = 'payment') AS payments,
       (SELECT count(*) FROM payments.payment_transactions) AS history,
       (SELECT count(*) FROM admin.audit_logs WHERE resource_type = 'payment') AS audit,
       (SELECT count(*) FROM admin.events WHERE type LIKE 'payments:payment:%%') AS events
"""


@dataclass
class Counted:
    """What a block of work cost the server."""

    wal_bytes: int = 0
    write_transactions: int = 0
    # How often and how many milliseconds each statement ran, the longest first. None unless it was asked for.
    statements: list[tuple[int, float, str]] | None = None
    wal_by_table: list[tuple[str, int]] | None = None


class Database:
    """A connection that looks from outside at a database under load."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True
        for extension in ("pg_stat_statements", "pg_walinspect"):
            self.rows(f"CREATE EXTENSION IF NOT EXISTS {extension}")

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Runs a statement; returns its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def number(self, query: str, *values: Any) -> int:
        """Runs a query of one number."""
        return int(self.rows(query, *values)[0][0])

    def unended(self) -> int:
        """Returns how many payments have not ended."""
        return self.number(UNENDED)

    def undone(self) -> int:
        """Returns how many payments and jobs are not finished: audit entries, events and mails included."""
        return self.unended() + self.number(UNDONE, list(PERIODIC), list(MAILED))

    def records(self) -> dict[str, int]:
        """Returns how many payments there are, and how many rows about them."""
        names = ("payments", "history", "audit", "events")
        return dict(zip(names, map(int, self.rows(RECORDS)[0]), strict=True))

    @contextmanager
    def counting(self, *, statements: bool = False) -> Iterator[Counted]:
        """Counts what the whole server does during the block; statements only of this database."""
        counted = Counted()
        if statements:
            self.set("pg_stat_statements.track", "top")
            self.rows("SELECT pg_stat_statements_reset()")
        start = self.rows(POSITION)[0][0]
        wal, writes = self.rows(COUNTERS)[0]
        yield counted
        wal_after, writes_after = self.rows(COUNTERS)[0]
        counted.wal_bytes, counted.write_transactions = wal_after - wal, writes_after - writes
        if statements:
            counted.statements = [
                (int(calls), float(ms), str(query)) for calls, ms, query in self.rows(STATEMENTS)
            ]
            counted.wal_by_table = self.rows(WAL_BY_TABLE, start, self.rows(POSITION)[0][0])
            self.set("pg_stat_statements.track", "none")

    def set(self, name: str, value: str) -> None:
        """Changes a setting of the whole server, for all sessions, and waits until it holds."""
        self.rows(f"ALTER SYSTEM SET {name} = '{value}'")
        self.rows("SELECT pg_reload_conf()")
        until(lambda: self.rows(f"SHOW {name}") == [(value,)])
