"""Job runs: when each periodic job last finished."""

from datetime import datetime

from db import postgres


def record_enqueued(name: str) -> None:
    """Records that there is a periodic job of this name. Locks nothing if that was recorded before."""
    postgres.rows("INSERT INTO admin.job_runs (name) VALUES (%s) ON CONFLICT DO NOTHING", name)


def record_finished(name: str) -> None:
    """Records that the periodic job of this name has finished."""
    postgres.rows("UPDATE admin.job_runs SET ended_at = clock_timestamp() WHERE name = %s", name)


def last_finished() -> dict[str, datetime | None]:
    """Returns when each periodic job last finished; None if it never did."""
    rows = postgres.rows("SELECT name, ended_at FROM admin.job_runs ORDER BY name")
    return {row["name"]: row["ended_at"] for row in rows}
