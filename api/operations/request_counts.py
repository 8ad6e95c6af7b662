"""Counts requests by their route. Each process hands on what it has counted, once a second, to Redis."""

import re
import threading
import time

import falcon

from db import redis, request_metrics
from db.request_metrics import Route, RouteCounts

# In seconds.
_EVERY = 1.0

_lock = threading.Lock()
_counted: dict[Route, RouteCounts] = {}
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def count(method: str, template: str | None, *, status: int, ms: float) -> None:
    """Counts one request; what found no route is counted together, and so are methods that HTTP does not
    know: a caller must not be able to make up what we keep a count of."""
    known = method if method in falcon.HTTP_METHODS else "unknown"
    route = _PARAMETER.sub(r":\1", template or "unknown")
    with _lock:
        _counted.setdefault((known, route), RouteCounts()).add(error=status >= 400, ms=ms)


def hand_on(client: redis.Client) -> None:
    """Adds what was counted here to what all have; with Redis away it is kept, and handed on later."""
    global _counted
    with _lock:
        counted, _counted = _counted, {}
    if not counted:
        return
    try:
        with redis.guarded(client):
            request_metrics.add(client, counted)
    except redis.Unreachable:
        with _lock:
            for route, counts in counted.items():
                _merge(_counted.setdefault(route, RouteCounts()), counts)


def start(client: redis.Client) -> None:
    """Hands on every second, as long as this process lives."""

    def run() -> None:
        while True:
            time.sleep(_EVERY)
            hand_on(client)

    threading.Thread(target=run, name="meter", daemon=True).start()


def _merge(into: RouteCounts, counts: RouteCounts) -> None:
    into.count += counts.count
    into.errors += counts.errors
    into.ms += counts.ms
    into.buckets = [a + b for a, b in zip(into.buckets, counts.buckets, strict=True)]
