"""GET /metrics: the metrics of the whole installation for Prometheus, from any web process.

Names follow the conventions of Prometheus and OpenTelemetry: units as suffix, `_total` for counters.
"""

import math
from collections.abc import Iterator

from falcon import Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from actors.all_jobs import queues
from actors.jobs import registry
from api.http.admission import Busy, Shared
from api.http.operation import RawOperation
from api.operations import request_counts
from db import backlog, heartbeats, invariants, job_runs, leases, postgres, redis, request_metrics
from db.core import times

_MEDIA_TYPE = "text/plain"
# A collection serves all requests of this time: anybody may ask, as often as they like.
CACHED_FOR_S = 1.0


class Metrics:
    """Answers GET /metrics."""

    def __init__(self, client: redis.Client) -> None:
        self._client = client
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._shared = Shared(lambda: generate_latest(self._registry), fresh=lambda _took: CACHED_FOR_S)

    @RawOperation(name="getMetrics", media=_MEDIA_TYPE, errors=(Busy,))
    def on_get(self, _req: Request, resp: Response) -> None:
        """Get requests, queues, workers and invariants in the text format of Prometheus."""
        resp.content_type = f"{_MEDIA_TYPE}; version=0.0.4; charset=utf-8"
        resp.data = self._shared.get()

    def collect(self) -> Iterator[Metric]:
        """Returns the current metrics. Those of a store that is away are left out."""
        up = GaugeMetricFamily("paywright_store_up", "Whether a store can be written.", labels=["store"])
        try:
            yield from self._from_redis()
            up.add_metric(["redis"], 1)
        except redis.Unreachable:
            up.add_metric(["redis"], 0)
        try:
            with postgres.connection():
                yield from [*_jobs(), *_invariants()]
            up.add_metric(["database"], 1)
        except postgres.TRANSIENT_ERRORS:
            up.add_metric(["database"], 0)
        yield up

    def _from_redis(self) -> list[Metric]:
        request_counts.flush(self._client)
        with redis.guarded(self._client):
            redis.check_writable(self._client)
            return [self._requests(), self._workers()]

    def _requests(self) -> Metric:
        durations = HistogramMetricFamily(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests.",
            labels=["http_request_method", "http_route", "http_response_status_code"],
        )
        for (method, route, status), histogram in request_metrics.read(self._client).items():
            reached, buckets = 0, []
            for bound, count in zip((*request_metrics.BUCKETS_S, math.inf), histogram.buckets, strict=True):
                reached += count
                buckets.append((_bound(bound), reached))
            durations.add_metric([method, route, str(status)], buckets, histogram.sum_s)
        return durations

    def _workers(self) -> Metric:
        workers = GaugeMetricFamily("paywright_workers", "Worker processes that are alive.", labels=["kind"])
        for kind, count in heartbeats.alive(self._client).items():
            workers.add_metric([kind], count)
        return workers


def _bound(seconds: float) -> str:
    return "+Inf" if seconds == math.inf else str(seconds)


def _jobs() -> Iterator[Metric]:
    waiting, now = backlog.measure(queues()), times.now()
    jobs = GaugeMetricFamily(
        "paywright_jobs",
        f"Jobs that are not done yet, counted up to {backlog.COUNT_LIMIT}.",
        labels=["queue"],
    )
    ages = GaugeMetricFamily(
        "paywright_job_oldest_age_seconds",
        "Age of the oldest job that is due; 0 when none is.",
        labels=["queue"],
    )
    for queue, count in waiting.waiting.items():
        jobs.add_metric([queue], count)
        ages.add_metric([queue], times.age_s(waiting.oldest[queue], now))
    dead = GaugeMetricFamily("paywright_dead_jobs", "Jobs that failed at every attempt.", labels=["job"])
    for name in sorted({*registry, *waiting.dead}):
        dead.add_metric([name], waiting.dead.get(name, 0))
    runs = GaugeMetricFamily(
        "paywright_scheduled_job_last_completion_timestamp_seconds",
        "When a scheduled job last completed; 0 when it has not yet.",
        labels=["job"],
    )
    for name, at in job_runs.last_finished().items():
        runs.add_metric([name], at.timestamp() if at else 0)
    yield from (jobs, ages, dead, runs)
    yield GaugeMetricFamily(
        "paywright_payments_in_review", "Payments with an open review.", value=waiting.in_review
    )
    yield GaugeMetricFamily(
        "paywright_missed_events", "Events that a subscriber gave up.", value=waiting.missed
    )
    yield GaugeMetricFamily(
        "paywright_scheduler_leaders",
        "Schedulers that hold the lease: 0 or 1.",
        value=leases.holder("scheduler") is not None,
    )


def _invariants() -> Iterator[Metric]:
    now = times.now()
    ok = GaugeMetricFamily(
        "paywright_invariant_ok", "Whether an invariant is known to hold.", labels=["invariant"]
    )
    violations = GaugeMetricFamily(
        "paywright_invariant_violations",
        "Records of the last day that violate an invariant; NaN when the last check failed or is too old.",
        labels=["invariant"],
    )
    age = GaugeMetricFamily(
        "paywright_invariant_check_age_seconds",
        "Age of the last check of an invariant; +Inf without one.",
        labels=["invariant"],
    )
    for status in invariants.statuses(now):
        ok.add_metric([status.name], status.ok)
        violations.add_metric([status.name], math.nan if status.count is None else status.count)
        checked_at = status.checked_at
        age.add_metric([status.name], (now - checked_at).total_seconds() if checked_at else math.inf)
    yield from (ok, violations, age)
