"""Counts requests in fixed windows: in Redis for all processes together, in memory while Redis is away.

A process takes a thousandth of a limit from Redis at a time, and counts its requests against that. So with a
limit of 100 each request costs a round trip; with a limit of 100,000, a hundred requests share one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import structlog

from db import redis

KEY_PREFIX = "paywright:limit:"

# How many leases a limit is divided into. Each process may leave a part of one lease unused.
LEASES_PER_WINDOW = 1000
# How many keys a process remembers at most.
MAX_KEYS_IN_MEMORY = 10_000

# Takes up to `most` requests of the rest of each limit. Returns for each limit how many requests are taken
# now, how many of them this call has taken, and the rest of the window in ms. Sets an expiry wherever one is
# missing: a key without an expiry would refuse its client for ever.
_TAKE = """
local answer = {}
for i, key in ipairs(KEYS) do
    local requests, most, window_ms = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), ARGV[3 * i]
    local taken, rest = tonumber(redis.call('GET', key) or 0), redis.call('PTTL', key)
    local granted = math.max(0, math.min(most, requests - taken))
    if granted > 0 then
        redis.call('INCRBY', key, granted)
    end
    if rest < 0 then
        redis.call('PEXPIRE', key, window_ms)
        rest = tonumber(window_ms)
    end
    answer[i] = {taken + granted, granted, rest}
end
return answer
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Limit:
    """How many requests a key may make in a window."""

    key: str
    requests: int
    window_s: int

    @property
    def lease(self) -> int:
        """Returns how many requests a process takes at once."""
        return max(1, self.requests // LEASES_PER_WINDOW)


@dataclass(frozen=True)
class Window:
    """How often a key was counted in its current window, and in how many seconds that window ends.

    The count is above the limit when the limit refuses the request.
    """

    count: int
    ends_in_s: float


@dataclass(slots=True)
class _Taken:
    """A window as this process knows it. `ends_at` is in seconds of the counter's clock."""

    # How many requests all processes have taken.
    count: int
    # How many of them this process has taken and not used yet.
    unused: int
    ends_at: float
    # Whether requests were counted without Redis, whose next answer replaces this window.
    alone: bool = False


class MemoryCounter:
    """The windows that this process knows, up to `max_keys`: further ones replace the oldest."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS_IN_MEMORY
    ) -> None:
        self.clock, self._max_keys = clock, max_keys
        self._lock = Lock()
        self._windows: dict[str, _Taken] = {}

    def count(self, limit: Limit) -> Window:
        """Counts a request without Redis."""
        with self._lock:
            now = self.clock()
            window = self._current(limit, now)
            if window is None:
                window = self._keep(limit, _Taken(0, 0, now + limit.window_s))
            window.count, window.alone = window.count + 1, True
            return Window(window.count, window.ends_at - now)

    def use(self, limit: Limit) -> Window | None:
        """Counts a request against the requests that this process has taken; None if all are used."""
        with self._lock:
            now = self.clock()
            window = self._current(limit, now)
            return self._use(limit, window, now) if window else None

    def add(self, limit: Limit, taken: int, granted: int, ends_at: float) -> Window:
        """Adds what Redis granted to this process, and counts a request against it."""
        with self._lock:
            now = self.clock()
            known = self._current(limit, now)
            # A clearly later end shows that Redis has lost its window and begun another. A smaller difference
            # is due to the time that the answer took.
            if known is None or known.alone or ends_at > known.ends_at + redis.REQUEST_TIMEOUT_S:
                known = self._keep(limit, _Taken(taken, 0, ends_at))
            # max: two answers may arrive in the opposite order.
            known.count, known.ends_at = max(known.count, taken), ends_at
            known.unused += granted
            used = self._use(limit, known, now)
            ends_in_s = ends_at - now
            if used is None:
                return Window(limit.requests + 1, ends_in_s)
            # A request that was taken alone has the number that Redis has given it.
            return Window(taken, ends_in_s) if granted == limit.lease == 1 else used

    def _current(self, limit: Limit, now: float) -> _Taken | None:
        window = self._windows.get(limit.key)
        return window if window and window.ends_at > now else None

    def _use(self, limit: Limit, window: _Taken, now: float) -> Window | None:
        """Counts a request against the window's unused requests; None if none are left."""
        if not window.unused:
            return None
        window.unused -= 1
        return Window(min(window.count, limit.requests) - window.unused, window.ends_at - now)

    def _keep(self, limit: Limit, window: _Taken) -> _Taken:
        # Removed and inserted: the end of the dict is dropped last.
        self._windows.pop(limit.key, None)
        if len(self._windows) >= self._max_keys:
            self._windows.pop(next(iter(self._windows)))
        self._windows[limit.key] = window
        return window


class SharedCounter:
    """Counts in Redis, a lease at a time; while Redis is away, goes on in memory from the last counts."""

    def __init__(self, client: redis.Client, memory: MemoryCounter) -> None:
        self._client, self._memory = client, memory
        self._script = client.register_script(_TAKE)

    def count(self, limits: Sequence[Limit]) -> list[Window]:
        """Counts a request against each limit, in at most one round trip; returns the current windows."""
        windows = {limit: self._memory.use(limit) for limit in limits}
        missing = [limit for limit, window in windows.items() if window is None]
        taken = dict(zip(missing, self._take(missing), strict=True)) if missing else {}
        return [windows[limit] or taken[limit] for limit in limits]

    def _take(self, limits: Sequence[Limit]) -> list[Window]:
        """Takes a lease of each limit and counts a request; counts in memory while Redis is away."""
        asked_at = self._memory.clock()
        arguments = [
            argument for limit in limits for argument in (limit.requests, limit.lease, limit.window_s * 1000)
        ]
        try:
            with redis.guarded(self._client):
                found = self._script([KEY_PREFIX + limit.key for limit in limits], arguments)
        except redis.Suspended:
            return [self._memory.count(limit) for limit in limits]
        except redis.Unreachable as error:
            log.warning("redis unavailable, each process counts for itself", error=str(error))
            return [self._memory.count(limit) for limit in limits]
        return [
            self._memory.add(limit, int(taken), int(granted), asked_at + int(rest_ms) / 1000)
            for limit, (taken, granted, rest_ms) in zip(limits, found, strict=True)
        ]
