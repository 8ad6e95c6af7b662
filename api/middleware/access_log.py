"""Middleware 3: logs one line for each request, and counts it for the metrics.

Headers, bodies and queries are never logged: they carry secrets. The web process collects the lines of 50 ms
and writes them together, without structlog and logging, which take longer for a line than many requests take.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from falcon import Request, Response

from api.middleware import authentication
from api.operations import request_counts
from api.operations.later import Later
from api.security.tokens import Tokens, Unauthorized
from db.core import logs, request_context

_LOGGER, _EVENT = "api.access", "request"
_WRITE_AFTER_S = 0.05

log = structlog.get_logger(_LOGGER)

_waiting: list[str] = []
_writes: Later | None = None

# A router's `find`: the resource, its methods, the parameters and the template; None where there is no route.
FindRoute = Callable[[str], tuple[Any, Any, Any, str | None] | None]


class AccessLog:
    """Logs method, route template, status, duration, client address and caller.

    A request that the rate limit refused was neither routed nor authenticated. Its route is looked up here,
    and its caller is the user of a token with a valid signature, whether or not the session goes on.
    """

    def __init__(self, find_route: FindRoute, tokens: Tokens) -> None:
        self._find_route, self._tokens = find_route, tokens

    def process_request(self, req: Request, _resp: Response) -> None:
        req.context.started_at = time.perf_counter()

    def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        # Falcon refuses a method that HTTP does not define before it calls process_request.
        started_at = getattr(req.context, "started_at", time.perf_counter())
        duration_s = time.perf_counter() - started_at
        route = req.uri_template
        if route is None and (found := self._find_route(req.path)):
            route = found[3]
        context = request_context.current()
        user_id = context.user_id
        if user_id is None and resp.status_code == 429:
            with suppress(Unauthorized):
                user_id = self._tokens.verify(authentication.bearer_token(req)).user_id
        # Without the time that the response waited because the client asked for it (`Prefer: wait`).
        computed_s = max(0.0, duration_s - getattr(req.context, "waited_s", 0.0))
        request_counts.count(req.method, route, status=resp.status_code, duration_s=computed_s)
        _log(
            method=req.method,
            route=route or "unknown",
            status=resp.status_code,
            ms=round(duration_s * 1000, 1),
            address=context.ip_address,
            caller=str(user_id) if user_id else None,
        )


def start() -> None:
    """Collects the lines of this process from now on and writes them together, if the log is JSON."""
    global _writes
    if logs.writes_json():
        _writes = Later(flush, _WRITE_AFTER_S)


def flush() -> None:
    """Writes the lines that wait."""
    global _waiting
    lines, _waiting = _waiting, []
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


def _log(**fields: Any) -> None:
    if _writes is None:
        log.info(_EVENT, **fields)
        return
    _waiting.append(logs.json_line(_LOGGER, _EVENT, fields))
    _writes.request()
