"""Gate 3: which other origins' pages may read our answers."""

import re
from typing import Any

from falcon import Request, Response

METHODS = "GET, HEAD, POST, PUT, DELETE"
HEADERS = "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Prefer, X-Request-ID"
EXPOSED = (
    "ETag, X-Request-ID, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit, RateLimit-Policy, "
    "Retry-After, WWW-Authenticate, Allow, Idempotency-Replayed, Preference-Applied, Content-Disposition"
)
# In seconds: for how long a browser may keep our answer to a preflight.
MAX_AGE = "7200"

# As a browser writes it: no path, and no port where it is the scheme's own.
_ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:[0-9]{1,5})?"
)


def parse_origins(value: "str | frozenset[str]") -> frozenset[str]:
    """Reads origins, comma separated. Raises ValueError; `*` is none."""
    if isinstance(value, frozenset):
        return value
    origins = frozenset(part.strip().lower() for part in value.split(",") if part.strip())
    if "*" in origins:
        raise ValueError("* is not allowed: name each origin")
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must be origins, comma separated, as https://shop.example,http://localhost:5173")
    return origins


class Cors:
    """Answers preflights; says on every answer whether the asking page's origin may read it."""

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = origins

    def process_request(self, req: Request, resp: Response) -> None:
        """Ends a preflight here: it carries no token, and costs its sender nothing of the rate limit."""
        asked = req.get_header("Access-Control-Request-Method")
        if req.method != "OPTIONS" or req.get_header("Origin") is None or asked is None:
            return
        resp.status = 204
        resp.complete = True
        if self._allows(req):
            resp.set_header("Access-Control-Allow-Methods", METHODS)
            resp.set_header("Access-Control-Allow-Headers", HEADERS)
            resp.set_header("Access-Control-Max-Age", MAX_AGE)

    def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Names the origin, if it is one of ours."""
        if self._origins:
            # Also where no origin was sent: a cache must not give that answer to a page.
            resp.append_header("Vary", "Origin")
        if self._allows(req):
            resp.set_header("Access-Control-Allow-Origin", req.get_header("Origin", required=True))
            resp.set_header("Access-Control-Allow-Credentials", "true")
            resp.set_header("Access-Control-Expose-Headers", EXPOSED)

    def _allows(self, req: Request) -> bool:
        return req.get_header("Origin") in self._origins
