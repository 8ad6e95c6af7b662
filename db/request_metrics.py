"""How often each route was asked and how long it took, summed up over all processes and machines, in Redis.

Redis and not files of each machine: the analytics are asked of any process of any machine. Redis may forget
them, as it may everything: they are for watching, and nothing hangs on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

from redis import Redis

_KEY = "paywright:requests"

# The upper ends of the buckets in which durations are counted, in ms; what takes longer is in one more.
BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)

# Method and route template.
Route = tuple[str, str]


@dataclass
class RouteCounts:
    """How often, how often with an error (4xx, 5xx), and how long: `ms` in all, and how many a bucket."""

    count: int = 0
    errors: int = 0
    ms: float = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))

    def add(self, *, error: bool, ms: float) -> None:
        """Counts one more."""
        self.count += 1
        self.errors += error
        self.ms += ms
        self.buckets[next((place for place, end in enumerate(BUCKETS) if ms <= end), len(BUCKETS))] += 1

    def quantile(self, share: float) -> float | None:
        """How long this share of them took at most, in ms, as far as the buckets tell; None without any."""
        if not self.count:
            return None
        wanted = share * self.count
        below = 0
        for place, reached in enumerate(accumulate(self.buckets)):
            if reached >= wanted and self.buckets[place]:
                begin, end = (BUCKETS[place - 1] if place else 0), BUCKETS[min(place, len(BUCKETS) - 1)]
                return round(begin + (max(begin, end) - begin) * (wanted - below) / self.buckets[place], 1)
            below = reached
        return float(BUCKETS[-1])


def add(client: Redis, counts: Mapping[Route, RouteCounts]) -> None:
    """Adds what one process has counted. Raises redis.Unreachable."""
    with client.pipeline(transaction=True) as pipe:
        for (method, route), it in counts.items():
            name = f"{method} {route}"
            pipe.hincrby(_KEY, f"{name} count", it.count)
            pipe.hincrby(_KEY, f"{name} errors", it.errors)
            pipe.hincrbyfloat(_KEY, f"{name} ms", it.ms)
            for place, many in enumerate(it.buckets):
                if many:
                    pipe.hincrby(_KEY, f"{name} {place}", many)
        pipe.execute()


def read(client: Redis) -> dict[Route, RouteCounts]:
    """What all have counted, by method and route. Raises redis.Unreachable."""
    found: dict[Route, RouteCounts] = {}
    for name, raw in cast(dict[bytes, bytes], client.hgetall(_KEY)).items():
        method, route, what = name.decode().split(" ")
        counts = found.setdefault((method, route), RouteCounts())
        if what == "ms":
            counts.ms = float(raw)
        elif what in ("count", "errors"):
            setattr(counts, what, int(raw))
        else:
            counts.buckets[int(what)] = int(raw)
    return dict(sorted(found.items(), key=lambda item: (item[0][1], item[0][0])))
