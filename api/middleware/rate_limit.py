"""Middleware 6: limits how many requests a client address may make; all processes count together."""

import math
import re
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Self

from falcon import Request, Response

from db.core import request_context
from db.core.errors import DomainError, ErrorCode
from db.rate_counters import Limit, SharedCounter

# POST requests that count against RATE_LIMIT_AUTH too.
_AUTH_PATHS = frozenset(
    f"/api/auth/{name}" for name in ("register", "login", "forgot-password", "reset-password")
)
# What counts against RATE_LIMIT_CONSOLE: the pages that mails link to are part of the console.
_PAGES = ("/console", "/verify-email", "/reset-password")
# The key, in the WSGI environment of a request that the console makes, of the limits that do not count the
# request. The visit to the console counts against RATE_LIMIT_CONSOLE.
UNCOUNTED = "paywright.uncounted_limits"
EXEMPT_PATHS = ("/api/health", "/api/docs", "/api/openapi.json", "/api/asyncapi.json", "/api/media")

_RATE = re.compile(r"([1-9]\d{0,8})\s*/\s*([1-9]\d{0,4})?\s*(second|minute|hour|day)s?")
_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
# One customer has a whole /64 of IPv6 and may use any address in it.
_IPV6_PREFIX_LENGTH = 64


class RateLimited(DomainError, code=ErrorCode.RATE_LIMITED):
    """Too many requests from this address: try again in {seconds} s."""


@dataclass(frozen=True)
class Rate:
    """How many requests are allowed in a window."""

    requests: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parses `100/15minutes`; an empty text means no limit. Raises ValueError."""
        text = text.strip()
        if not text:
            return None
        if not (match := _RATE.fullmatch(text)):
            raise ValueError(
                "must be a number of requests and a time, such as 100/15minutes or 5/minute, or empty"
            )
        requests, units, unit = match.groups()
        return cls(int(requests), int(units or 1) * _UNITS_S[unit])


class RateLimit:
    """Counts a request against each limit that applies to it, and refuses it when one is exceeded."""

    def __init__(
        self, api: Rate | None, auth: Rate | None, console: Rate | None, counter: SharedCounter
    ) -> None:
        self._api, self._auth, self._console, self._counter = api, auth, console, counter

    def process_request(self, req: Request, resp: Response) -> None:
        """Sets the RateLimit headers. Raises RateLimited."""
        rates = self._rates(req)
        if not rates:
            return
        client = _client_key(request_context.current().ip_address or "")
        # In braces, so that a Redis cluster keeps both keys on one node.
        limits = [Limit(f"{{{client}}}:{name}", rate.requests, rate.window_s) for name, rate in rates.items()]
        windows = dict(zip(rates, self._counter.count(limits), strict=True))
        # Negative for a limit that this request exceeds.
        remaining = {name: rate.requests - windows[name].count for name, rate in rates.items()}
        resets_in_s = {name: max(1, math.ceil(window.ends_in_s)) for name, window in windows.items()}
        # The fields of draft-ietf-httpapi-ratelimit-headers-10: lists with one member for each limit.
        policies = [f'"{name}";q={rate.requests};w={rate.window_s}' for name, rate in rates.items()]
        left = [f'"{name}";r={max(remaining[name], 0)};t={resets_in_s[name]}' for name in rates]
        resp.set_header("RateLimit-Policy", ", ".join(policies))
        resp.set_header("RateLimit", ", ".join(left))
        # The limit with the fewest requests left; of two that are exceeded, the one that ends later.
        tightest = min(rates, key=lambda name: (max(remaining[name], -1), -resets_in_s[name]))
        resp.set_header("RateLimit-Limit", str(rates[tightest].requests))
        resp.set_header("RateLimit-Remaining", str(max(remaining[tightest], 0)))
        resp.set_header("RateLimit-Reset", str(resets_in_s[tightest]))
        if remaining[tightest] < 0:
            raise RateLimited(retry_after=resets_in_s[tightest])

    def _rates(self, req: Request) -> dict[str, Rate]:
        """Returns the limits that count a request, by their names."""
        if any(_is_under(req.path, path) for path in _PAGES) and not _is_under(req.path, "/console/assets"):
            return {"console": self._console} if self._console else {}
        if not _is_under(req.path, "/api") or any(_is_under(req.path, path) for path in EXEMPT_PATHS):
            return {}
        counts_as_auth = req.method == "POST" and req.path in _AUTH_PATHS
        rates = {"api": self._api, "auth": self._auth if counts_as_auth else None}
        uncounted = req.env.get(UNCOUNTED, ())
        return {name: rate for name, rate in rates.items() if rate and name not in uncounted}


def _is_under(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _client_key(address: str) -> str:
    """Returns the address, or the network of an IPv6 address."""
    if ":" not in address:
        return address
    return str(ip_network((address, _IPV6_PREFIX_LENGTH), strict=False))
