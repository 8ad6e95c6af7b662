"""How many requests each route answered and how long they took, of all processes and machines, in Redis.

They are in Redis and not in files of each machine, because any process of any machine may serve them.
Redis may lose them at any time: they serve observation alone.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from redis import Redis

from db import recent_counts

_KEY = "paywright:http_requests"

# The upper bounds of the histogram's buckets. One more bucket counts what takes longer.
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

# Method and route template.
Route = tuple[str, str]


class Series(NamedTuple):
    """What one histogram covers."""

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
        """How many requests there were."""
        return sum(self.buckets)

    def observe(self, duration_s: float) -> None:
        """Adds one request."""
        self.sum_s += duration_s
        self.buckets[bisect_left(BUCKETS_S, duration_s)] += 1

    def merge(self, other: "Histogram") -> None:
        """Adds the requests of another histogram."""
        self.sum_s += other.sum_s
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]

    def quantile_ms(self, share: float) -> float | None:
        """Returns how long this share of the requests took at most, in ms; None without requests.

        It is interpolated within a bucket, so it is as exact as the bucket is narrow.
        """
        wanted, below = share * self.count, 0
        # Of what takes longer than the last bound, only that bound is known.
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


def add(client: Redis, histograms: Mapping[Series, Histogram]) -> None:
    """Adds what one process has counted. Raises redis.Unreachable."""
    with client.pipeline(transaction=True) as pipe:
        for (method, route, status), histogram in histograms.items():
            name = f"{method} {route} {status}"
            pipe.hincrbyfloat(_KEY, f"{name} sum_s", histogram.sum_s)
            for bucket, count in enumerate(histogram.buckets):
                if count:
                    pipe.hincrby(_KEY, f"{name} {bucket}", count)
        total = Histogram()
        for histogram in histograms.values():
            total.merge(histogram)
        errors = sum(each.count for series, each in histograms.items() if series.status >= 500)
        recent_counts.add_requests(pipe, dict(enumerate(total.buckets)), errors)
        pipe.execute()


def read(client: Redis) -> dict[Series, Histogram]:
    """Returns what all processes have counted, by route, method and status. Raises redis.Unreachable."""
    histograms: dict[Series, Histogram] = defaultdict(Histogram)
    for name, value in cast(dict[bytes, bytes], client.hgetall(_KEY)).items():
        method, route, status, part = name.decode().split(" ")
        histogram = histograms[Series(method, route, int(status))]
        if part == "sum_s":
            histogram.sum_s = float(value)
        else:
            histogram.buckets[int(part)] = int(value)
    return dict(sorted(histograms.items(), key=lambda item: (item[0].route, item[0].method, item[0].status)))


def by_route(histograms: Mapping[Series, Histogram]) -> dict[Route, RouteMetrics]:
    """Returns the requests of each method and route, whatever their status."""
    routes: dict[Route, RouteMetrics] = defaultdict(RouteMetrics)
    for (method, route, status), histogram in histograms.items():
        metrics = routes[method, route]
        metrics.durations.merge(histogram)
        metrics.errors += histogram.count if status >= 400 else 0
    return dict(routes)
