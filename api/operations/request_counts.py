"""Counts the requests of this process by route, and adds them to those of all processes once a second."""

import re
import threading
import time

import falcon

from db import redis, request_metrics
from db.request_metrics import Histogram, Series

_FLUSH_INTERVAL_S = 1.0

# `{payment_id:uuid}` in a route template.
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

_lock = threading.Lock()
_counted: dict[Series, Histogram] = {}


def count(method: str, template: str | None, *, status: int, duration_s: float) -> None:
    """Counts one request.

    Requests without a route share one name, and so do methods that HTTP does not define: a client must not
    be able to create series.
    """
    known_method = method if method in falcon.HTTP_METHODS else "unknown"
    route = _PARAMETER.sub(r":\1", template or "unknown")
    with _lock:
        _counted.setdefault(Series(known_method, route, status), Histogram()).observe(duration_s)


def flush(client: redis.Client) -> None:
    """Moves the counts of this process to Redis; while Redis is away they are kept for the next time."""
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
            for series, histogram in counted.items():
                _counted.setdefault(series, Histogram()).merge(histogram)


def start(client: redis.Client) -> None:
    """Flushes once a second as long as this process lives."""

    def run() -> None:
        while True:
            time.sleep(_FLUSH_INTERVAL_S)
            flush(client)

    threading.Thread(target=run, name="request-counts", daemon=True).start()
