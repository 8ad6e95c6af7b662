"""Middleware 5: pages of the origins in CORS_ORIGINS, and no others, may read responses."""

import re
from typing import Any

from falcon import Request, Response

_ALLOWED_METHODS = "GET, HEAD, POST, PUT, DELETE"
_ALLOWED_HEADERS = (
    "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID, Prefer, "
    "X-Request-ID, traceparent, tracestate"
)
_EXPOSED_HEADERS = (
    "ETag, X-Request-ID, traceparent, "
    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit, RateLimit-Policy, "
    "Retry-After, WWW-Authenticate, Allow, Idempotency-Replayed, Preference-Applied, Content-Disposition, "
    "Last-Event-ID"
)
# How long a browser may cache the response to a preflight.
_PREFLIGHT_MAX_AGE_S = "7200"

# As browsers write an origin: without a path, and without the default port of the scheme.
_ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:[0-9]{1,5})?"
)


def parse_origins(text: str) -> frozenset[str]:
    """Parses comma-separated origins. Raises ValueError, also for `*`."""
    origins = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    if "*" in origins:
        raise ValueError("* is not allowed: name each origin")
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must be comma-separated origins such as https://shop.example,http://localhost:5173")
    return origins


class Cors:
    """Answers preflights, and marks every response that the page of an allowed origin may read."""

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = origins

    def process_request(self, req: Request, resp: Response) -> None:
        """Answers a preflight at once: it carries no token, and must not count against the rate limit.

        falcon.CORSMiddleware decides in process_response, after the rate limit, and allows any header that is
        requested.
        """
        if req.method != "OPTIONS" or req.get_header("Origin") is None:
            return
        if req.get_header("Access-Control-Request-Method") is None:
            return
        resp.status = 204
        resp.complete = True
        if self._allows(req):
            resp.set_header("Access-Control-Allow-Methods", _ALLOWED_METHODS)
            resp.set_header("Access-Control-Allow-Headers", _ALLOWED_HEADERS)
            resp.set_header("Access-Control-Max-Age", _PREFLIGHT_MAX_AGE_S)

    def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        if self._origins:
            # Also without an Origin header: a cache must not serve that response to a page.
            resp.append_header("Vary", "Origin")
        for name, value in self.headers(req.get_header("Origin") or "").items():
            resp.set_header(name, value)

    def headers(self, origin: str) -> dict[str, str]:
        """Returns the headers by which a page of this origin may read a response; none if it may not."""
        if origin not in self._origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": _EXPOSED_HEADERS,
        }

    def _allows(self, req: Request) -> bool:
        return req.get_header("Origin") in self._origins
