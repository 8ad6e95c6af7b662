"""Counts requests in fixed windows: in Redis for all processes together, in memory while Redis is away."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import structlog

from db import redis

KEY_PREFIX = "paywright:limit:"

# How many keys a process counts at most while Redis is away.
MAX_KEYS_IN_MEMORY = 10_000

# Counts each key, lets a new key expire with its window (ARGV, in ms), and returns each count with the rest
# of its window in ms. A key without an expiry would refuse its client for ever, so it gets one, whatever
# removed the first.
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


@dataclass(frozen=True)
class Window:
    """How often a key was counted in its current window, and in how many seconds that window ends."""

    count: int
    ends_in_s: float


class MemoryCounter:
    """Counts in this process. When it is full it drops the key that it has held longest."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS_IN_MEMORY
    ) -> None:
        self._clock, self._max_keys = clock, max_keys
        self._lock = Lock()
        # The count of each key, and when its window ends.
        self._windows: dict[str, tuple[int, float]] = {}

    def count(self, keys: Sequence[tuple[str, int]]) -> list[Window]:
        """Counts each key once, in its window of this many seconds, and returns the current windows."""
        with self._lock:
            now = self._clock()
            return [self._count_one(key, window_s, now) for key, window_s in keys]

    def adopt(self, keys: Sequence[tuple[str, int]], windows: Sequence[Window]) -> None:
        """Takes over what Redis counted, to continue from there when it goes away."""
        with self._lock:
            now = self._clock()
            for (key, _), window in zip(keys, windows, strict=True):
                self._keep(key, window.count, now + window.ends_in_s)

    def _count_one(self, key: str, window_s: int, now: float) -> Window:
        count, end = self._windows.get(key, (0, 0.0))
        if end <= now:
            # A key with a new window moves to the end of the order in which keys are dropped.
            self._windows.pop(key, None)
            count, end = 0, now + window_s
        self._keep(key, count + 1, end)
        return Window(count + 1, end - now)

    def _keep(self, key: str, count: int, end: float) -> None:
        if key not in self._windows and len(self._windows) >= self._max_keys:
            self._windows.pop(next(iter(self._windows)))
        self._windows[key] = (count, end)


class SharedCounter:
    """Counts in Redis, in one round trip; while Redis is unavailable, in memory from the last counts."""

    def __init__(self, client: redis.Client, memory: MemoryCounter) -> None:
        self._client, self._memory = client, memory
        self._script = client.register_script(_COUNT)

    def count(self, keys: Sequence[tuple[str, int]]) -> list[Window]:
        """Counts each key once, in its window of this many seconds, and returns the current windows."""
        try:
            with redis.guarded(self._client):
                found = self._script(
                    [KEY_PREFIX + key for key, _ in keys], [window_s * 1000 for _, window_s in keys]
                )
        except redis.Suspended:
            return self._memory.count(keys)
        except redis.Unreachable as error:
            log.warning("redis unavailable, each process counts for itself", error=str(error))
            return self._memory.count(keys)
        windows = [Window(int(count), int(rest_ms) / 1000) for count, rest_ms in found]
        self._memory.adopt(keys, windows)
        return windows
