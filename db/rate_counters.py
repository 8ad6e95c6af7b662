"""Counts requests in fixed windows: in Redis for all processes together, in memory while Redis is away.

A process takes a thousandth of a limit at a time. So 100 requests are counted one by one, and of 100,000 a
hundred cost one round trip.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import structlog

from db import redis

KEY_PREFIX = "paywright:limit:"

# A process takes this part of a limit at once: the part that other processes may leave unused.
LEASES_PER_WINDOW = 1000
# How many keys a process remembers at most.
MAX_KEYS_IN_MEMORY = 10_000

# Takes up to `most` of what is left of each limit. Returns how much of it is taken now, how much of that was
# taken by this call, and the rest of the window in ms. A key without an expiry would refuse its client for
# ever, so it gets one, whatever removed the first.
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
        """How many requests a process takes at once."""
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
    """What is taken of a window, `unused` of it by this process, and when the window ends."""

    count: int
    unused: int
    ends_at: float
    # Counted without Redis, whose next answer replaces this.
    alone: bool = False


class MemoryCounter:
    """The windows that this process knows. When it is full it drops the key that it has held longest."""

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
        """Counts a request against what this process has taken; None if nothing is left of that."""
        with self._lock:
            now = self.clock()
            window = self._current(limit, now)
            return self._use(limit, window, now) if window else None

    def add(self, limit: Limit, taken: int, granted: int, ends_at: float) -> Window:
        """Adds what Redis granted to this process, and counts a request against it."""
        with self._lock:
            now = self.clock()
            known = self._current(limit, now)
            # Redis may have forgotten its window; an answer that was slow only seems to end it earlier.
            if known is None or known.alone or ends_at > known.ends_at + redis.REQUEST_TIMEOUT_S:
                known = self._keep(limit, _Taken(taken, 0, ends_at))
            # Of two answers the later one may arrive first.
            known.count, known.ends_at = max(known.count, taken), ends_at
            known.unused += granted
            used = self._use(limit, known, now)
            ends_in_s = ends_at - now
            if used is None:
                return Window(limit.requests + 1, ends_in_s)
            # One that was taken alone has a number of its own, whatever the others have.
            return Window(taken, ends_in_s) if granted == limit.lease == 1 else used

    def _current(self, limit: Limit, now: float) -> _Taken | None:
        window = self._windows.get(limit.key)
        return window if window and window.ends_at > now else None

    def _use(self, limit: Limit, window: _Taken, now: float) -> Window | None:
        if not window.unused:
            return None
        window.unused -= 1
        return Window(min(window.count, limit.requests) - window.unused, window.ends_at - now)

    def _keep(self, limit: Limit, window: _Taken) -> _Taken:
        # A key with a new window moves to the end of the order in which keys are dropped.
        self._windows.pop(limit.key, None)
        if len(self._windows) >= self._max_keys:
            self._windows.pop(next(iter(self._windows)))
        self._windows[limit.key] = window
        return window


class SharedCounter:
    """Counts in Redis, a lease at a time; while Redis is unavailable, in memory from the last counts."""

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
