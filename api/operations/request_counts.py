"""Counts the requests of this process by route, and adds them to those of all processes after a second."""

import re
import threading
from functools import lru_cache, partial

import falcon

from api.operations.later import Later
from db import redis, shared_counts
from db.shared_counts import Histogram, Series

_FLUSH_AFTER_S = 1.0
# More than there are routes, methods and statuses.
_MAX_SERIES = 2000

# `{payment_id:uuid}` in a route template.
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

_lock = threading.Lock()
_counted: dict[Series, Histogram] = {}
_flushes: Later | None = None


def count(method: str, template: str | None, *, status: int, duration_s: float) -> None:
    """Counts one request."""
    series = _series(method, template, status)
    with _lock:
        histogram = _counted.get(series) or _counted.setdefault(series, Histogram())
        histogram.observe(duration_s)
    if _flushes:
        _flushes.request()


@lru_cache(_MAX_SERIES)
def _series(method: str, template: str | None, status: int) -> Series:
    """Returns where a request is counted.

    Requests without a route share one name, and so do methods that HTTP does not define: a client must not
    be able to create series.
    """
    known_method = method if method in falcon.HTTP_METHODS else "unknown"
    return Series(known_method, shown_route(template or "unknown"), status)


def shown_route(template: str) -> str:
    """Returns a route as metrics and spans name it: `/api/payments/:payment_id`."""
    return _PARAMETER.sub(r":\1", template)


def flush(client: redis.Client) -> None:
    """Moves the counts of this process to Redis; while Redis is away they are kept for the next time."""
    global _counted
    with _lock:
        counted, _counted = _counted, {}
    if not counted:
        return
    try:
        with redis.guarded(client):
            shared_counts.add_requests(client, counted)
    except redis.Unreachable:
        with _lock:
            for series, histogram in counted.items():
                _counted.setdefault(series, Histogram()).merge(histogram)


def start(client: redis.Client) -> None:
    """Flushes a second after a request, as long as this process lives."""
    global _flushes
    _flushes = Later(partial(flush, client), _FLUSH_AFTER_S)
