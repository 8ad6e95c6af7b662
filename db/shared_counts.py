"""Counts of all processes on all machines, in Redis: requests by route, and finished jobs.

They are not in files of each machine, because any process of any machine may serve them. Redis may lose them
at any time: they serve observation alone.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from redis import Redis

# The keys of the requests by route since Redis was last empty, and of the counts since the last sample.
_BY_ROUTE, _RECENT = "paywright:http_requests", "paywright:recent_counts"

# The upper bounds of the histogram's buckets. One further bucket counts longer requests.
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Series(NamedTuple):
    """The requests that one histogram counts."""

    method: str
    route: str
    status: int


@dataclass
class Histogram:
    """The durations of requests: their sum in seconds, and how many are in each bucket."""

    sum_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def observe(self, duration_s: float) -> None:
        """Counts one request."""
        self.sum_s += duration_s
        self.buckets[bisect_left(BUCKETS_S, duration_s)] += 1

    def merge(self, other: "Histogram") -> None:
        """Adds the requests of another histogram."""
        self.sum_s += other.sum_s
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]

    def quantile_ms(self, share: float) -> float | None:
        """Returns how long this share of the requests took at most, in ms; None without requests.

        The value is interpolated within a bucket, so it is as exact as the bucket is narrow.
        """
        wanted, below = share * self.count, 0
        # The last bucket has no upper bound: its requests count as if they had taken the last bound.
        for low, high, count in zip(
            (0.0, *BUCKETS_S), (*BUCKETS_S, BUCKETS_S[-1]), self.buckets, strict=True
        ):
            if count and below + count >= wanted:
                return round((low + (high - low) * (wanted - below) / count) * 1000, 1)
            below += count
        return None


@dataclass
class RouteMetrics:
    """The requests of one route; an error is a response with a 4xx or 5xx status."""

    errors: int = 0
    durations: Histogram = field(default_factory=Histogram)


@dataclass
class RecentCounts:
    """The durations of requests, how many had a 5xx status, and finished jobs by queue."""

    durations: Histogram = field(default_factory=Histogram)
    errors: int = 0
    finished: Counter[str] = field(default_factory=Counter)


def add_requests(client: Redis, histograms: Mapping[Series, Histogram]) -> None:
    """Adds the requests that one process has counted. Raises redis.Unreachable."""
    total, errors = Histogram(), 0
    with client.pipeline(transaction=True) as pipe:
        for (method, route, status), histogram in histograms.items():
            name = f"{method} {route} {status}"
            pipe.hincrbyfloat(_BY_ROUTE, f"{name} sum_s", histogram.sum_s)
            _add_buckets(pipe, _BY_ROUTE, name, histogram)
            total.merge(histogram)
            errors += histogram.count if status >= 500 else 0
        _add_buckets(pipe, _RECENT, "bucket", total)
        if errors:
            pipe.hincrby(_RECENT, "errors", errors)
        pipe.execute()


def requests(client: Redis) -> dict[Series, Histogram]:
    """Returns the requests of all processes, by route, method and status. Raises redis.Unreachable."""
    histograms: dict[Series, Histogram] = defaultdict(Histogram)
    for name, value in cast(dict[bytes, bytes], client.hgetall(_BY_ROUTE)).items():
        method, route, status, part = name.decode().split(" ")
        histogram = histograms[Series(method, route, int(status))]
        if part == "sum_s":
            histogram.sum_s = float(value)
        else:
            histogram.buckets[int(part)] = int(value)
    return dict(sorted(histograms.items(), key=lambda item: (item[0].route, item[0].method, item[0].status)))


def by_route(histograms: Mapping[Series, Histogram]) -> dict[tuple[str, str], RouteMetrics]:
    """Returns the requests of each method and route, whatever their status."""
    routes: dict[tuple[str, str], RouteMetrics] = defaultdict(RouteMetrics)
    for (method, route, status), histogram in histograms.items():
        metrics = routes[method, route]
        metrics.durations.merge(histogram)
        metrics.errors += histogram.count if status >= 400 else 0
    return dict(routes)


def add_finished(client: Redis, finished: Mapping[str, int]) -> None:
    """Adds the jobs that one process has finished, by queue. Raises redis.Unreachable."""
    with client.pipeline(transaction=True) as pipe:
        for queue, count in finished.items():
            pipe.hincrby(_RECENT, f"finished {queue}", count)
        pipe.execute()


def take_recent(client: Redis) -> RecentCounts:
    """Returns the counts since the last call, and deletes them. Raises redis.Unreachable.

    Counts that are deleted, instead of compared with the last ones, are never negative after Redis was
    flushed.
    """
    with client.pipeline(transaction=True) as pipe:
        pipe.hgetall(_RECENT)
        pipe.delete(_RECENT)
        counted = cast(dict[bytes, bytes], pipe.execute()[0])
    counts = RecentCounts()
    for counter, value in counted.items():
        name, _, part = counter.decode().partition(" ")
        if name == "bucket":
            counts.durations.buckets[int(part)] = int(value)
        elif name == "finished":
            counts.finished[part] = int(value)
        else:
            counts.errors = int(value)
    return counts


def _add_buckets(pipe: Any, key: str, name: str, histogram: Histogram) -> None:
    for bucket, count in enumerate(histogram.buckets):
        if count:
            pipe.hincrby(key, f"{name} {bucket}", count)
