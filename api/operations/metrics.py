"""GET /metrics: what Prometheus reads. The figures are the whole installation's, whoever is asked."""

import math
from collections.abc import Iterator

from falcon import Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from actors.all_jobs import queues
from actors.jobs import registry
from api.http.admission import Busy, Shared
from api.http.operation import raw_operation
from api.operations import request_counts
from db import backlog, heartbeats, invariants, job_runs, leases, postgres, redis, request_metrics
from db.core import times

_MEDIA = "text/plain"
# For how long the figures serve whoever asks, in seconds: anybody may ask, and as often as they like.
FRESH_S = 1.0


class Metrics:
    """GET /metrics"""

    def __init__(self, client: redis.Client) -> None:
        self._client = client
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._shared = Shared(lambda: generate_latest(self._registry), fresh=lambda _took: FRESH_S)

    @raw_operation(name="getMetrics", media=_MEDIA, errors=(Busy,))
    def on_get(self, _req: Request, resp: Response) -> None:
        """Requests, queues, workers and invariants, in the text format of Prometheus."""
        resp.content_type = f"{_MEDIA}; version=0.0.4; charset=utf-8"
        resp.data = self._shared.get()

    def collect(self) -> Iterator[Metric]:
        """What is known now; what cannot be asked now is left out, and `paywright_up` says so."""
        up = GaugeMetricFamily("paywright_up", "Whether a store answers.", labels=["store"])
        try:
            yield from self._redis()
            up.add_metric(["redis"], 1)
        except redis.Unreachable:
            up.add_metric(["redis"], 0)
        try:
            with postgres.connection():
                yield from _operating()
            up.add_metric(["database"], 1)
        except postgres.TRANSIENT_ERRORS:
            up.add_metric(["database"], 0)
        yield up

    def _redis(self) -> list[Metric]:
        request_counts.hand_on(self._client)
        with redis.guarded(self._client):
            redis.check_writable(self._client)
            return [*self._requests(), self._workers()]

    def _requests(self) -> Iterator[Metric]:
        labels = ["method", "route"]
        errors = CounterMetricFamily(
            "paywright_request_errors", "Requests that were refused or failed.", labels=labels
        )
        took = HistogramMetricFamily("paywright_request_seconds", "How long requests took.", labels=labels)
        for route, it in request_metrics.read(self._client).items():
            errors.add_metric(route, it.errors)
            reached, buckets = 0, []
            for end, many in zip((*request_metrics.BUCKETS, None), it.buckets, strict=True):
                reached += many
                buckets.append(("+Inf" if end is None else str(end / 1000), reached))
            took.add_metric(route, buckets, it.ms / 1000)
        yield errors
        yield took

    def _workers(self) -> Metric:
        workers = GaugeMetricFamily("paywright_workers", "Processes that are alive.", labels=["kind"])
        for kind, many in heartbeats.alive(self._client).items():
            workers.add_metric([kind], many)
        return workers


def _operating() -> Iterator[Metric]:
    waits, now = backlog.measure(queues()), times.now()
    jobs = GaugeMetricFamily("paywright_jobs", "Jobs that are not done yet, up to 100,000.", labels=["queue"])
    ages = GaugeMetricFamily(
        "paywright_oldest_job_seconds",
        "How old the oldest job is that is due, 0 without any.",
        labels=["queue"],
    )
    for queue, many in waits.waiting.items():
        jobs.add_metric([queue], many)
        ages.add_metric([queue], times.age_s(waits.oldest[queue], now))
    dead = GaugeMetricFamily("paywright_dead_jobs", "Jobs given up, by their name.", labels=["job"])
    for name in sorted({*registry, *waits.dead}):
        dead.add_metric([name], waits.dead.get(name, 0))
    runs = GaugeMetricFamily(
        "paywright_job_ended_timestamp_seconds",
        "When a scheduled job last ran to its end, 0 where it has not yet.",
        labels=["job"],
    )
    for name, at in job_runs.last_finished().items():
        runs.add_metric([name], at.timestamp() if at else 0)
    yield from (jobs, ages, dead, runs)
    yield GaugeMetricFamily(
        "paywright_needs_review", "Payments for a person to look at.", value=waits.in_review
    )
    yield GaugeMetricFamily(
        "paywright_missed_events", "Events that a subscriber gave up.", value=waits.missed
    )
    leads = leases.holder("scheduler") is not None
    yield GaugeMetricFamily("paywright_scheduler_leads", "Whether any scheduler leads.", value=leads)
    yield from _invariants()


def _invariants() -> Iterator[Metric]:
    now = times.now()
    ok = GaugeMetricFamily("paywright_invariant_ok", "Whether it is known to hold.", labels=["invariant"])
    broken = GaugeMetricFamily(
        "paywright_invariant_broken",
        "How many break it, of the last day's; NaN where the last look could not be finished, or is too old.",
        labels=["invariant"],
    )
    age = GaugeMetricFamily(
        "paywright_invariant_age_seconds", "How old the last look is; +Inf without one.", labels=["invariant"]
    )
    for it in invariants.statuses(now):
        ok.add_metric([it.name], it.ok)
        broken.add_metric([it.name], math.nan if it.count is None else it.count)
        age.add_metric([it.name], (now - it.checked_at).total_seconds() if it.checked_at else math.inf)
    yield from (ok, broken, age)
