"""GET /metrics: the metrics of the whole installation for Prometheus, from any web process.

Names follow the conventions of Prometheus and OpenTelemetry: units as suffix, `_total` for counters.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import accumulate

from falcon import Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from actors.all_jobs import queues
from actors.jobs import registry
from api.http.admission import Busy, Shared
from api.http.operation import RawOperation
from api.operations import request_counts
from db import backlog, config, heartbeats, invariants, job_runs, leases, postgres, redis, request_metrics
from db.core import times

_MEDIA_TYPE = "text/plain"
# A collection serves all requests of this time: the route is public.
CACHED_FOR_S = 1.0


class Metrics:
    """GET /metrics."""

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
        up = {"redis": False, "database": False}
        with suppress(redis.Unreachable):
            yield from self._from_redis()
            up["redis"] = True
        with suppress(*postgres.TRANSIENT_ERRORS), postgres.connection():
            yield from [*_jobs(), *_invariants()]
            up["database"] = True
        yield _gauge("paywright_store_up", "Whether a store can be written.", "store", up)

    def _from_redis(self) -> list[Metric]:
        request_counts.flush(self._client)
        with redis.guarded(self._client):
            redis.check_writable(self._client)
            workers = heartbeats.alive(self._client)
            return [
                self._requests(),
                _gauge("paywright_workers", "Worker processes that are alive.", "kind", workers),
            ]

    def _requests(self) -> Metric:
        durations = HistogramMetricFamily(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests.",
            labels=["http_request_method", "http_route", "http_response_status_code"],
        )
        bounds = [*map(str, request_metrics.BUCKETS_S), "+Inf"]
        for (method, route, status), histogram in request_metrics.read(self._client).items():
            buckets = list(zip(bounds, accumulate(histogram.buckets), strict=True))
            durations.add_metric([method, route, str(status)], buckets, histogram.sum_s)
        return durations


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """A gauge with one sample for each value of its label."""
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for labelled, value in values.items():
        gauge.add_metric([labelled], value)
    return gauge


def _jobs() -> Iterator[Metric]:
    waiting, now = backlog.measure(queues()), times.now()
    yield _gauge(
        "paywright_jobs",
        f"Jobs that are not done yet, counted up to {backlog.COUNT_LIMIT}.",
        "queue",
        waiting.waiting,
    )
    yield _gauge(
        "paywright_job_oldest_age_seconds",
        "Age of the oldest job that is due; 0 when none is.",
        "queue",
        {queue: times.age_s(waiting.oldest[queue], now) for queue in waiting.waiting},
    )
    paused = config.paused_queues()
    yield _gauge(
        "paywright_queue_paused",
        "Whether an operator has paused a queue: its jobs wait.",
        "queue",
        {queue: queue in paused for queue in sorted(queues())},
    )
    yield _gauge(
        "paywright_dead_jobs",
        "Jobs that failed at every attempt.",
        "job",
        {name: waiting.dead.get(name, 0) for name in sorted({*registry, *waiting.dead})},
    )
    yield _gauge(
        "paywright_scheduled_job_last_completion_timestamp_seconds",
        "When a scheduled job last completed; 0 when it has not yet.",
        "job",
        {name: at.timestamp() if at else 0 for name, at in job_runs.last_finished().items()},
    )
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
    statuses = {status.name: status for status in invariants.statuses(now)}
    yield _gauge(
        "paywright_invariant_ok",
        "Whether an invariant is known to hold.",
        "invariant",
        {name: status.ok for name, status in statuses.items()},
    )
    yield _gauge(
        "paywright_invariant_violations",
        "Records of the last day that violate an invariant; NaN when the last check failed or is too old.",
        "invariant",
        {name: math.nan if status.count is None else status.count for name, status in statuses.items()},
    )
    yield _gauge(
        "paywright_invariant_check_age_seconds",
        "Age of the last check of an invariant; +Inf without one.",
        "invariant",
        {
            name: (now - status.checked_at).total_seconds() if status.checked_at else math.inf
            for name, status in statuses.items()
        },
    )
