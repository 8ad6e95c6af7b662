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

from api.gateway import meter as gate
from api.gateway.operation import page
from api.gateway.seats import Busy, Shared
from db import meter, operating, postgres, presence, redis, times

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

    @page(name="getMetrics", media=_MEDIA, refuses=(Busy,))
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
        except postgres.Unreachable:
            up.add_metric(["database"], 0)
        yield up

    def _redis(self) -> list[Metric]:
        gate.hand_on(self._client)
        with redis.asked(self._client):
            redis.ask_to_write(self._client)
            return [*self._requests(), self._workers()]

    def _requests(self) -> Iterator[Metric]:
        labels = ["method", "route"]
        errors = CounterMetricFamily(
            "paywright_request_errors", "Requests that were refused or failed.", labels=labels
        )
        took = HistogramMetricFamily("paywright_request_seconds", "How long requests took.", labels=labels)
        for route, it in meter.read(self._client).items():
            errors.add_metric(route, it.errors)
            reached, buckets = 0, []
            for end, many in zip((*meter.BUCKETS, None), it.buckets, strict=True):
                reached += many
                buckets.append(("+Inf" if end is None else str(end / 1000), reached))
            took.add_metric(route, buckets, it.ms / 1000)
        yield errors
        yield took

    def _workers(self) -> Metric:
        workers = GaugeMetricFamily("paywright_workers", "Processes that are alive.", labels=["kind"])
        for kind, many in presence.alive(self._client).items():
            workers.add_metric([kind], many)
        return workers


def _operating() -> Iterator[Metric]:
    waits = operating.backlog()
    queues = GaugeMetricFamily("paywright_promises", "Promises that are not kept yet.", labels=["queue"])
    for queue, many in waits["queues"].items():
        queues.add_metric([queue], many)
    yield queues
    yield GaugeMetricFamily("paywright_dead_promises", "Promises given up.", value=waits["dead"])
    yield GaugeMetricFamily("paywright_needs_review", "Payments for a person.", value=waits["in_review"])
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
    for it in operating.standings(now):
        ok.add_metric([it.name], it.ok)
        broken.add_metric([it.name], math.nan if it.count is None else it.count)
        age.add_metric([it.name], (now - it.checked_at).total_seconds() if it.checked_at else math.inf)
    yield from (ok, broken, age)
