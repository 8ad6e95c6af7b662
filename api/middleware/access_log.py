"""Gate 2: one line a request, and one more counted. Never a header, a body or a query: they carry secrets."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from falcon import Request, Response

from api.middleware import authentication
from api.operations import request_counts
from api.security.tokens import Tokens, Unauthorized
from db.core import request_context

log = structlog.get_logger("api.access")

# As a router's: the resource, its methods, the parameters and the template; None where there is no route.
Find = Callable[[str], tuple[Any, Any, Any, str | None] | None]

_TOO_MANY = 429


class AccessLog:
    """Says what was asked, by whom and from where, and how it ended; by the route's template and not by the
    path.

    A request that a limit refused has not been routed or authenticated: its route is looked up here, and its
    caller is whose the token is by its signature, without asking whether the session goes on.
    """

    def __init__(self, find: Find, tokens: Tokens) -> None:
        self._find, self._tokens = find, tokens

    def process_request(self, req: Request, _resp: Response) -> None:
        """Starts the clock."""
        req.context.began = time.perf_counter()

    def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Writes the line, and counts."""
        began = getattr(req.context, "began", time.perf_counter())
        ms = round((time.perf_counter() - began) * 1000, 1)
        route = req.uri_template or self._template(req.path)
        where = request_context.current()
        user_id = where.user_id or (self._owner(req) if resp.status_code == _TOO_MANY else None)
        request_counts.count(req.method, route, status=resp.status_code, ms=ms)
        log.info(
            "request",
            method=req.method,
            route=route or "unknown",
            status=resp.status_code,
            ms=ms,
            address=where.ip_address,
            caller=str(user_id) if user_id else None,
        )

    def _template(self, path: str) -> str | None:
        found = self._find(path)
        return found[3] if found else None

    def _owner(self, req: Request) -> UUID | None:
        try:
            return self._tokens.verify(authentication.bearer(req)).user_id
        except Unauthorized:
            return None
