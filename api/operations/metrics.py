"""GET /metrics: the metrics of the whole installation for Prometheus, from any web process.

Names follow the conventions of Prometheus and OpenTelemetry: units as suffix, `_total` for counters.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import accumulate

from falcon import Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from actors.event_handlers import SUBSCRIBERS
from actors.jobs import queues, registry
from api.http.admission import Busy, Shared
from api.http.operation import RawOperation
from api.operations import request_counts
from api.operations.health import REQUIRED_WORKERS
from db import (
    backlog,
    config,
    event_log,
    heartbeats,
    invariants,
    job_runs,
    leases,
    payments_in_progress,
    postgres,
    redis,
    samples,
    shared_counts,
    subscriptions,
)
from db.core import VERSION, times
from db.states import PaymentStatus

_MEDIA_TYPE = "text/plain"
# For how long a collection is reused: the route is public, and must not load the stores.
CACHED_FOR_S = 1.0
# The statuses of payments that have not ended. A request that waits for its customer is not in progress.
_IN_PROGRESS = (PaymentStatus.PENDING, PaymentStatus.PROCESSING)


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
            # All of them before the first is yielded: after a failure, none is in the response.
            yield from [*_jobs(), *_payments(), *_events(), *_invariants()]
            up["database"] = True
        yield InfoMetricFamily("paywright_build", "The version that runs.", {"version": VERSION})
        yield _gauge("paywright_store_up", "Whether a store can be written.", "store", up)

    def _from_redis(self) -> list[Metric]:
        request_counts.flush(self._client)
        with redis.guarded(self._client):
            redis.check_writable(self._client)
            requests = self._requests()
            processes = heartbeats.processes(self._client)
        alive = Counter(process.type for process in processes if process.alive)
        # A kind that is missing is 0: an alert cannot see what is not there.
        workers = dict.fromkeys(sorted(REQUIRED_WORKERS), 0) | heartbeats.count_workers(processes)
        return [
            requests,
            _gauge("paywright_workers", "Worker processes that are alive.", "kind", workers),
            _gauge("paywright_processes", "Processes that are alive.", "type", alive),
        ]

    def _requests(self) -> Metric:
        durations = HistogramMetricFamily(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests.",
            labels=["http_request_method", "http_route", "http_response_status_code"],
        )
        bounds = [*map(str, shared_counts.BUCKETS_S), "+Inf"]
        for (method, route, status), histogram in shared_counts.requests(self._client).items():
            buckets = list(zip(bounds, accumulate(histogram.buckets), strict=True))
            durations.add_metric([method, route, str(status)], buckets, histogram.sum_s)
        return durations


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Returns a gauge with one sample for each value of its label."""
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for labelled, value in values.items():
        gauge.add_metric([labelled], value)
    return gauge


def _jobs() -> Iterator[Metric]:
    jobs, now = backlog.measure(queues()), times.now()
    yield _gauge(
        "paywright_jobs",
        f"Jobs that are not done yet, counted up to {backlog.COUNT_LIMIT}.",
        "queue",
        jobs.waiting,
    )
    yield _gauge(
        "paywright_job_oldest_age_seconds",
        "Age of the oldest job that is due; 0 when none is.",
        "queue",
        {queue: times.age_s(jobs.oldest[queue], now) for queue in jobs.waiting},
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
        {name: jobs.dead.get(name, 0) for name in sorted({*registry, *jobs.dead})},
    )
    yield _gauge(
        "paywright_scheduled_job_last_completion_timestamp_seconds",
        "When a scheduled job last completed; 0 when it has not yet.",
        "job",
        {name: at.timestamp() if at else 0 for name, at in job_runs.last_finished().items()},
    )
    finished = samples.finished_per_minute(now)
    if finished is not None:
        yield _gauge(
            "paywright_jobs_finished_per_minute",
            "Jobs that were finished in the last minute.",
            "queue",
            {queue: finished[queue] for queue in sorted(queues())},
        )
    yield GaugeMetricFamily(
        "paywright_payments_in_review", "Payments with an open review.", value=jobs.in_review
    )
    yield GaugeMetricFamily("paywright_missed_events", "Events that a subscriber gave up.", value=jobs.missed)
    yield GaugeMetricFamily(
        "paywright_scheduler_leaders",
        "Schedulers that hold the lease: 0 or 1.",
        value=leases.holder(leases.SCHEDULER) is not None,
    )


def _payments() -> Iterator[Metric]:
    found, now = payments_in_progress.by_status(backlog.COUNT_LIMIT), times.now()
    yield _gauge(
        "paywright_payments_in_progress",
        f"Payments that have not ended, counted up to {backlog.COUNT_LIMIT}.",
        "status",
        {status: found[status][0] if status in found else 0 for status in _IN_PROGRESS},
    )
    yield _gauge(
        "paywright_payment_in_progress_oldest_age_seconds",
        "How long the payment that changed first has been in its status; 0 when none is.",
        "status",
        {status: times.age_s(found[status][1] if status in found else None, now) for status in _IN_PROGRESS},
    )


def _events() -> Iterator[Metric]:
    now, unpublished = times.now(), event_log.unpublished(1)
    yield CounterMetricFamily(
        "paywright_events", "Events that were written to the log.", value=event_log.last_seq()
    )
    yield GaugeMetricFamily(
        "paywright_event_unpublished_oldest_age_seconds",
        "Age of the oldest event that is not published yet; 0 when all are.",
        value=times.age_s(unpublished[0].occurred_at if unpublished else None, now),
    )
    next_events = subscriptions.oldest_unhandled({each.name: each.types for each in SUBSCRIBERS})
    yield _gauge(
        "paywright_subscriber_lag_seconds",
        "Age of the next event that a subscriber has to handle; 0 when there is none.",
        "subscriber",
        {name: times.age_s(at, now) for name, at in next_events.items()},
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
