"""Middleware between 2 and 3, only where spans are exported: each request is a span of its trace."""

from dataclasses import replace
from typing import Any

from falcon import Request, Response

from actors import tracing
from api.middleware.request_context import TRACE_HEADER, offered_trace
from api.operations import request_counts
from db.core import request_context

# Asked every few seconds by machines, and no part of any trace.
_NOT_RECORDED = ("/health", "/api/health", "/metrics")


class RequestSpans:
    """Begins the span of a request, from which all that it causes follows, and ends it with the response."""

    def process_request(self, req: Request, resp: Response) -> None:
        if req.path in _NOT_RECORDED:
            return
        context = request_context.current()
        attributes = {"http.request.method": req.method, "url.path": req.path, "url.scheme": req.scheme}
        if context.ip_address:
            attributes["client.address"] = context.ip_address
        if context.user_agent:
            attributes["user_agent.original"] = context.user_agent
        # The client's span is the parent, not the one that the request context has made up.
        req.context.span = span = tracing.begin_request(req.method, offered_trace(req), attributes)
        context = replace(context, trace=span.trace)
        request_context.bind(context)
        resp.set_header(TRACE_HEADER, context.traceparent or "")

    def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        span: tracing.Span | None = getattr(req.context, "span", None)
        if span is None:
            return
        attributes: dict[str, str | int] = {"http.response.status_code": resp.status_code}
        name = req.method
        if req.uri_template:
            attributes["http.route"] = request_counts.shown_route(req.uri_template)
            name = f"{name} {attributes['http.route']}"
        span.describe(name, attributes)
        span.end(str(resp.status_code) if resp.status_code >= 500 else None)
