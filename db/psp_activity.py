"""What the PSP did in the last hour, and the payments whose outcome is not known."""

from dataclasses import dataclass, field
from datetime import timedelta

from db import postgres
from db.core import times
from db.core.ids import first_at

# The calls of the last hour are found by their ids, which begin with the time: an index on the time itself
# would be written with each call. A minute more on both sides, for clocks that differ.
HOUR, MARGIN = timedelta(hours=1), timedelta(minutes=1)

# A call has a deadline of 12 s. One without an outcome after that was interrupted: its process died.
CALLS = """
    SELECT coalesce(outcome, CASE WHEN created_at > statement_timestamp() - interval '15 s'
        THEN 'under_way' ELSE 'interrupted' END) AS outcome, count(*) AS calls
    FROM payments.psp_attempts
    WHERE id >= %(first)s AND id < %(end)s AND created_at > statement_timestamp() - interval '1 hour'
        AND operation <> 'notice'
    GROUP BY 1 ORDER BY 1
"""

DURATIONS = """
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took_ms) AS p50,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY took_ms) AS p95
    FROM (
        SELECT 1000 * extract(epoch FROM ended_at - created_at) AS took_ms FROM payments.psp_attempts
        WHERE id >= %(first)s AND id < %(end)s AND created_at > statement_timestamp() - interval '1 hour'
            AND operation <> 'notice' AND ended_at IS NOT NULL
    ) AS ended
"""

# A call without an answer, and none since that had one.
UNKNOWN = """
    SELECT count(*) AS payments FROM (
        SELECT FROM payments.payments_in_progress i, LATERAL (
            SELECT outcome FROM payments.psp_attempts a
            WHERE a.payment_id = i.payment_id AND a.operation <> 'notice' AND a.outcome IS NOT NULL
            ORDER BY a.created_at DESC, a.id DESC LIMIT 1) AS last
        WHERE last.outcome = 'no_answer' LIMIT %s
    ) AS part
"""
UNKNOWN_LIMIT = 10_000


@dataclass(frozen=True)
class PspActivity:
    """Calls by outcome and their durations in the last hour, and payments whose last call had no answer."""

    outcomes: dict[str, int] = field(default_factory=dict)
    p50_ms: float | None = None
    p95_ms: float | None = None
    unknown: int = 0


def measure() -> PspActivity:
    """Measures the activity of the last hour."""
    now = times.now()
    ids = {"first": first_at(now - HOUR - MARGIN), "end": first_at(now + MARGIN)}
    outcomes = {row["outcome"]: row["calls"] for row in postgres.rows(CALLS, **ids)}
    [durations] = postgres.rows(DURATIONS, **ids)
    [unknown] = postgres.rows(UNKNOWN, UNKNOWN_LIMIT)
    return PspActivity(outcomes, durations["p50"], durations["p95"], unknown["payments"])
