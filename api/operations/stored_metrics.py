"""The metrics that PostgreSQL knows: jobs, payments, events, subscribers, the scheduler, invariants."""

import math
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from actors.all_jobs import queues
from actors.event_handlers import SUBSCRIBERS
from actors.jobs import registry
from db import (
    backlog,
    config,
    event_log,
    invariants,
    job_runs,
    leases,
    payments_in_progress,
    samples,
    subscriptions,
    visible_events,
)
from db.core import times
from db.states import PaymentStatus

# Where a payment may be that has not ended.
_IN_PROGRESS = (PaymentStatus.PENDING, PaymentStatus.PROCESSING)


def gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """A gauge with one sample for each value of its label."""
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for labelled, value in values.items():
        gauge.add_metric([labelled], value)
    return gauge


def collect() -> Iterator[Metric]:
    """Returns the current metrics. Raises postgres.TRANSIENT_ERRORS."""
    for part in (_jobs, _payments, _events, _invariants):
        yield from part()


def _jobs() -> Iterator[Metric]:
    waiting, now = backlog.measure(queues()), times.now()
    yield gauge(
        "paywright_jobs",
        f"Jobs that are not done yet, counted up to {backlog.COUNT_LIMIT}.",
        "queue",
        waiting.waiting,
    )
    yield gauge(
        "paywright_job_oldest_age_seconds",
        "Age of the oldest job that is due; 0 when none is.",
        "queue",
        {queue: times.age_s(waiting.oldest[queue], now) for queue in waiting.waiting},
    )
    paused = config.paused_queues()
    yield gauge(
        "paywright_queue_paused",
        "Whether an operator has paused a queue: its jobs wait.",
        "queue",
        {queue: queue in paused for queue in sorted(queues())},
    )
    yield gauge(
        "paywright_dead_jobs",
        "Jobs that failed at every attempt.",
        "job",
        {name: waiting.dead.get(name, 0) for name in sorted({*registry, *waiting.dead})},
    )
    yield gauge(
        "paywright_scheduled_job_last_completion_timestamp_seconds",
        "When a scheduled job last completed; 0 when it has not yet.",
        "job",
        {name: at.timestamp() if at else 0 for name, at in job_runs.last_finished().items()},
    )
    finished = samples.finished_per_minute(now)
    if finished is not None:
        yield gauge(
            "paywright_jobs_finished_per_minute",
            "Jobs that were finished in the last minute.",
            "queue",
            {queue: finished[queue] for queue in sorted(queues())},
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


def _payments() -> Iterator[Metric]:
    found, now = payments_in_progress.by_status(backlog.COUNT_LIMIT), times.now()
    yield gauge(
        "paywright_payments_in_progress",
        f"Payments that have not ended, counted up to {backlog.COUNT_LIMIT}.",
        "status",
        {status: found[status][0] if status in found else 0 for status in _IN_PROGRESS},
    )
    yield gauge(
        "paywright_payment_in_progress_oldest_age_seconds",
        "How long the payment that changed first has been in its status; 0 when none is.",
        "status",
        {status: times.age_s(found[status][1] if status in found else None, now) for status in _IN_PROGRESS},
    )


def _events() -> Iterator[Metric]:
    now, unpublished = times.now(), event_log.unpublished(1)
    yield CounterMetricFamily(
        "paywright_events", "Events that were written to the log.", value=visible_events.last_seq()
    )
    yield GaugeMetricFamily(
        "paywright_event_unpublished_oldest_age_seconds",
        "Age of the oldest event that is not published yet; 0 when all are.",
        value=times.age_s(unpublished[0].occurred_at if unpublished else None, now),
    )
    next_events = subscriptions.oldest_unhandled({each.name: each.types for each in SUBSCRIBERS})
    yield gauge(
        "paywright_subscriber_lag_seconds",
        "Age of the next event that a subscriber has to handle; 0 when there is none.",
        "subscriber",
        {name: times.age_s(at, now) for name, at in next_events.items()},
    )


def _invariants() -> Iterator[Metric]:
    now = times.now()
    statuses = {status.name: status for status in invariants.statuses(now)}
    yield gauge(
        "paywright_invariant_ok",
        "Whether an invariant is known to hold.",
        "invariant",
        {name: status.ok for name, status in statuses.items()},
    )
    yield gauge(
        "paywright_invariant_violations",
        "Records of the last day that violate an invariant; NaN when the last check failed or is too old.",
        "invariant",
        {name: math.nan if status.count is None else status.count for name, status in statuses.items()},
    )
    yield gauge(
        "paywright_invariant_check_age_seconds",
        "Age of the last check of an invariant; +Inf without one.",
        "invariant",
        {
            name: (now - status.checked_at).total_seconds() if status.checked_at else math.inf
            for name, status in statuses.items()
        },
    )
