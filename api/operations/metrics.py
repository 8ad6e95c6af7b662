"""GET /metrics: the metrics of the whole installation for Prometheus, from any web process.

Names follow the conventions of Prometheus and OpenTelemetry: units as suffix, `_total` for counters.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate

from falcon import Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily, InfoMetricFamily, Metric

from api.http.admission import Busy, Shared
from api.http.operation import RawOperation
from api.operations import request_counts, stored_metrics
from api.operations.health import REQUIRED_WORKERS
from api.operations.stored_metrics import gauge
from db import heartbeats, postgres, redis, request_metrics
from db.core import VERSION

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
            yield from list(stored_metrics.collect())
            up["database"] = True
        yield InfoMetricFamily("paywright_build", "The version that runs.", {"version": VERSION})
        yield gauge("paywright_store_up", "Whether a store can be written.", "store", up)

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
            gauge("paywright_workers", "Worker processes that are alive.", "kind", workers),
            gauge("paywright_processes", "Processes that are alive.", "type", alive),
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
