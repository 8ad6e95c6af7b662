"""Gate 2: one line a request, and one more counted. Never a header, a body or a query: they carry secrets."""

import time
from typing import Any

import structlog
from falcon import Request, Response

from actors import origin
from api.gateway import meter

log = structlog.get_logger("api.access")


class AccessLog:
    """Says what was asked and how it ended, by the route's template and not by the address."""

    def process_request(self, req: Request, _resp: Response) -> None:
        """Starts the clock."""
        req.context.began = time.perf_counter()

    def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Writes the line, and counts."""
        caller = origin.current().user_id
        began = getattr(req.context, "began", time.perf_counter())
        ms = round((time.perf_counter() - began) * 1000, 1)
        meter.count(req.method, req.uri_template, status=resp.status_code, ms=ms)
        log.info(
            "request",
            method=req.method,
            route=req.uri_template or "unknown",
            status=resp.status_code,
            ms=ms,
            caller=str(caller) if caller else None,
        )
