"""Samples: what the whole installation did in each 15 seconds, kept for a day.

The leading scheduler writes a sample a few seconds after the end of each interval: by then, all that happened
in the interval is committed and counted. An interval without a leader has no sample.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from db import backlog, postgres
from db.job_journal import DISPATCH_GRACE_S
from db.shared_counts import RecentCounts

INTERVAL_S = 15
INTERVAL = timedelta(seconds=INTERVAL_S)
# How many seconds after its interval a sample is written.
DELAY_S = 3
KEPT_FOR = timedelta(days=1)
# A sample that is missing after this time is not written any more.
_WRITTEN_WITHIN = timedelta(seconds=8)


@dataclass(frozen=True)
class Sample:
    """The figures of the 15 seconds until `at`; None where they are not known."""

    at: datetime
    requests: int | None
    errors: int | None
    p95_ms: float | None
    settled: int | None
    lag_ms: int | None


# `settled` counts payments, not the requests that are settled with them. `waiting` is since when the oldest
# job waits: since it was created, sent again, or due after a delay. A leased job does not wait. `whole` tells
# whether the counts are those of this interval: only if the sample before has taken its own counts.
RECORD = f"""
    {backlog.JOB_NAMES_CTE}, whole AS (
        SELECT %(counted)s AND EXISTS (
            SELECT FROM admin.samples WHERE at = %(since)s AND counted) AS counts
    ), settled AS (
        SELECT count(*) AS payments
        FROM payments.payment_transactions t
        JOIN payments.payments p ON p.id = t.payment_id AND p.type = 'payment'
        WHERE t.created_at > %(since)s AND t.created_at <= %(at)s
            AND t.from_status = 'processing' AND t.status IN ('completed', 'failed')
    ), waiting AS (
        SELECT min((SELECT min(CASE sent_at
            WHEN '-infinity' THEN due_at
            WHEN 'infinity' THEN greatest(created_at, due_at - interval '{DISPATCH_GRACE_S} s')
            ELSE greatest(created_at, sent_at) END)
            FROM (SELECT created_at, sent_at, due_at, leased_until FROM journal.jobs j
                WHERE j.name = names.name AND j.dead_at IS NULL ORDER BY position
                LIMIT {backlog.OLDEST_JOBS_LIMIT}
            ) AS part WHERE leased_until IS NULL OR leased_until <= statement_timestamp())) AS since
        FROM names
    ), unpublished AS (
        SELECT occurred_at AS since FROM admin.events
        WHERE seq > (SELECT seq FROM admin.event_publication) ORDER BY seq LIMIT 1
    )
    INSERT INTO admin.samples (at, counted, requests, errors, p95_ms, finished, settled, lag_ms)
    SELECT %(at)s, %(counted)s,
        CASE WHEN whole.counts THEN %(requests)s::bigint END,
        CASE WHEN whole.counts THEN %(errors)s::bigint END,
        CASE WHEN whole.counts THEN %(p95_ms)s::float8 END,
        CASE WHEN whole.counts THEN %(finished)s::jsonb END,
        settled.payments,
        1000 * greatest(0, extract(epoch FROM statement_timestamp()
            - least(waiting.since, (SELECT since FROM unpublished))))
    FROM whole, settled, waiting
    ON CONFLICT DO NOTHING
"""


def last_end(time: datetime) -> datetime:
    """Returns the end of the last interval that ended before this time."""
    return time.replace(second=time.second // INTERVAL_S * INTERVAL_S, microsecond=0)


def record(counts: RecentCounts | None, at: datetime) -> None:
    """Records the sample of the interval that ended at `at`, once. `counts` is None while Redis is away."""
    counted = counts or RecentCounts()
    with postgres.database.atomic():
        backlog.prefer_indexes()
        postgres.rows(
            RECORD,
            at=at,
            since=at - INTERVAL,
            counted=counts is not None,
            requests=counted.durations.count,
            errors=counted.errors,
            p95_ms=counted.durations.quantile_ms(0.95),
            finished=postgres.Json(counted.finished),
        )


LATEST = """
    SELECT ends.at, s.requests, s.errors, s.p95_ms, s.settled, s.lag_ms
    FROM generate_series(%s, %s, interval '15 s') AS ends (at) LEFT JOIN admin.samples s ON s.at = ends.at
    ORDER BY ends.at
"""


def latest(minutes: int, now: datetime) -> list[Sample]:
    """Returns the samples of the last minutes, oldest first. In a missing sample, all figures are None."""
    last = last_end(now - _WRITTEN_WITHIN)
    first = last - timedelta(minutes=minutes) + INTERVAL
    return [Sample(**row) for row in postgres.rows(LATEST, first, last)]


FINISHED = """
    SELECT finished FROM admin.samples
    WHERE at > %s AND finished IS NOT NULL
"""


def finished_per_minute(now: datetime) -> Counter[str] | None:
    """Returns how many jobs of each queue were finished in the last minute; None if that is not known."""
    found = postgres.rows(FINISHED, last_end(now - _WRITTEN_WITHIN) - timedelta(minutes=1))
    if not found:
        return None
    finished = sum((Counter(row["finished"]) for row in found), Counter[str]())
    return Counter(
        {
            queue: round(count * timedelta(minutes=1) / INTERVAL / len(found))
            for queue, count in finished.items()
        }
    )


def delete_expired(now: datetime) -> None:
    """Deletes samples that are older than a day."""
    postgres.rows("DELETE FROM admin.samples WHERE at < %s", now - KEPT_FOR)
