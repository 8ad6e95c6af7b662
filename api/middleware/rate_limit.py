"""Gate 4: how many requests one address may make, counted by all processes together."""

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from threading import Lock
from typing import Self

import structlog
from falcon import Request, Response

from db import redis
from db.core import request_context
from db.core.errors import DomainError, ErrorCode

PREFIX = "paywright:limit:"

GUARDED = frozenset(
    f"/api/auth/{name}" for name in ("register", "login", "forgot-password", "reset-password")
)
EXEMPT = ("/api/health", "/api/docs", "/api/openapi.json", "/api/media")

# How many addresses a process counts at most while Redis is away.
LARGEST_MEMORY = 10_000

_SYNTAX = re.compile(r"([1-9]\d{0,8})\s*/\s*([1-9]\d{0,4})?\s*(second|minute|hour|day)s?")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

# For each key: counts, lets a new key end with its window (ARGV, in ms), and tells the count and the rest in
# ms. A key without an end would refuse its address for ever: it gets one, whoever took it away.
_COUNT = """
local answer = {}
for i, key in ipairs(KEYS) do
    local count, rest = redis.call('INCR', key), redis.call('PTTL', key)
    if rest < 0 then
        redis.call('PEXPIRE', key, ARGV[i])
        rest = tonumber(ARGV[i])
    end
    answer[i] = {count, rest}
end
return answer
"""

log = structlog.get_logger(__name__)


class RateLimited(DomainError):
    """Too many requests from this address: try again in {seconds} s."""

    code = ErrorCode.RATE_LIMITED

    def __init__(self, seconds: int) -> None:
        self.retry_after = seconds
        super().__init__({"retryAfter": seconds}, seconds=seconds)


@dataclass(frozen=True)
class Rate:
    """So many requests in a window of so many seconds."""

    requests: int
    seconds: int

    @classmethod
    def parse(cls, value: "str | Rate | None") -> Self | None:
        """Reads `100/15minutes`; nothing is no limit. Raises ValueError."""
        if value is None or isinstance(value, cls):
            return value
        text = str(value).strip()
        if not text:
            return None
        if not (found := _SYNTAX.fullmatch(text)):
            raise ValueError(
                "must be a number of requests and a time, as 100/15minutes or 5/minute, or empty"
            )
        requests, times, unit = found.groups()
        return cls(int(requests), int(times or 1) * _SECONDS[unit])


@dataclass(frozen=True)
class Count:
    """How often something was counted in its window, and in how many seconds that ends."""

    times: int
    seconds: float


# Counts once for each key, in its window of so many seconds.
Counter = Callable[[Sequence[tuple[str, int]]], list[Count]]


class Memory:
    """Counts in this process; forgets whom it saw first when it is full."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, largest: int = LARGEST_MEMORY) -> None:
        self._clock, self._largest = clock, largest
        self._lock = Lock()
        self._windows: dict[str, tuple[int, float]] = {}

    def __call__(self, keys: Sequence[tuple[str, int]]) -> list[Count]:
        with self._lock:
            now = self._clock()
            return [self._count(key, seconds, now) for key, seconds in keys]

    def learn(self, keys: Sequence[tuple[str, int]], counts: Sequence[Count]) -> None:
        """Takes over what another has counted, to go on from there."""
        with self._lock:
            now = self._clock()
            for (key, _), count in zip(keys, counts, strict=True):
                self._keep(key, count.times, now + count.seconds)

    def _count(self, key: str, seconds: int, now: float) -> Count:
        times, end = self._windows.get(key, (0, 0.0))
        if end <= now:
            # A new window is as a new address.
            self._windows.pop(key, None)
            times, end = 0, now + seconds
        self._keep(key, times + 1, end)
        return Count(times + 1, end - now)

    def _keep(self, key: str, times: int, end: float) -> None:
        if key not in self._windows and len(self._windows) >= self._largest:
            self._windows.pop(next(iter(self._windows)))
        self._windows[key] = (times, end)


class Shared:
    """Counts in Redis, in one round trip; in memory while Redis does not answer, from where Redis was."""

    def __init__(self, client: redis.Client, memory: Memory) -> None:
        self._client, self._memory = client, memory
        self._script = client.register_script(_COUNT)

    def __call__(self, keys: Sequence[tuple[str, int]]) -> list[Count]:
        try:
            with redis.guarded(self._client):
                found = self._script(
                    [PREFIX + key for key, _ in keys], [seconds * 1000 for _, seconds in keys]
                )
        except redis.Suspended:
            return self._memory(keys)
        except redis.Unreachable as error:
            log.warning("redis is away, each process counts on its own", error=str(error))
            return self._memory(keys)
        counts = [Count(int(times), int(rest) / 1000) for times, rest in found]
        self._memory.learn(keys, counts)
        return counts


class Limits:
    """Counts a request against the limits that hold for it, and refuses what is over one of them."""

    def __init__(self, api: Rate | None, auth: Rate | None, counter: Counter) -> None:
        self._api, self._auth, self._count = api, auth, counter

    def process_request(self, req: Request, resp: Response) -> None:
        """Lets pass. Raises RateLimited."""
        rates = self._rates(req)
        if not rates:
            return
        who = _who(request_context.current().ip_address or "")
        # In braces, so that a Redis cluster has both keys in one place.
        counts = self._count([(f"{{{who}}}:{name}", rate.seconds) for name, rate in rates])
        states = [
            (rate.requests - count.times, max(1, math.ceil(count.seconds)), rate.requests)
            for (_, rate), count in zip(rates, counts, strict=True)
        ]
        _list_all(resp, rates, [(max(left, 0), seconds) for left, seconds, _ in states])
        # The tighter of the two; of two that are used up, the one that takes longer.
        left, seconds, limit = min(states, key=lambda state: (max(state[0], -1), -state[1]))
        resp.set_header("RateLimit-Limit", str(limit))
        resp.set_header("RateLimit-Remaining", str(max(left, 0)))
        resp.set_header("RateLimit-Reset", str(seconds))
        if left < 0:
            raise RateLimited(seconds)

    def _rates(self, req: Request) -> list[tuple[str, Rate]]:
        if not _within(req.path, "/api") or any(_within(req.path, exempt) for exempt in EXEMPT):
            return []
        guarded = req.method == "POST" and req.path in GUARDED
        rates = {"api": self._api, "auth": self._auth if guarded else None}
        return [(name, rate) for name, rate in rates.items() if rate]


def _list_all(resp: Response, rates: list[tuple[str, Rate]], states: list[tuple[int, int]]) -> None:
    """Sets the fields of draft-ietf-httpapi-ratelimit-headers-10: lists with one member for each limit."""
    policies = [f'"{name}";q={rate.requests};w={rate.seconds}' for name, rate in rates]
    limits = [
        f'"{name}";r={left};t={seconds}' for (name, _), (left, seconds) in zip(rates, states, strict=True)
    ]
    resp.set_header("RateLimit-Policy", ", ".join(policies))
    resp.set_header("RateLimit", ", ".join(limits))


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _who(address: str) -> str:
    """An address, or the network of an IPv6 one: a /64 is one customer's, who may take any address in it."""
    return str(ip_network((address, 64), strict=False)) if ":" in address else address
