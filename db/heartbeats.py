"""Which processes are alive: each writes a heartbeat to Redis every few seconds."""

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from pydantic_core import from_json, to_json
from redis import Redis

from db.redis import Unreachable

# A sorted set: the members are processes, the scores the times of their last heartbeats.
_KEY = "paywright:processes"
# A process without a heartbeat for this long counts as gone.
EXPIRES_S = 15
INTERVAL_S = 5
# For how long a process that is gone is still listed.
LISTED_S = 600


@dataclass(frozen=True)
class Process:
    """A process and its last heartbeat. `number` is the one of PROCESS_NAME, as in `payments.2`."""

    type: str
    number: int | None
    host: str
    pid: int
    # The kinds of work that a worker does: its queues, or its role.
    kinds: tuple[str, ...]
    last_seen_at: datetime
    alive: bool

    @property
    def place(self) -> tuple[str, str, int | None]:
        """Returns what a process has in common with the one that replaces it."""
        return self.host, self.type, self.number


def beat(client: Redis, kinds: Iterable[str], *, type: str | None = None) -> None:
    """Records that this process is alive and which kinds of work it does. Does nothing while Redis is away.

    Without `type`, the type of the process is its first kind in the order of the alphabet.
    """
    now = time.time()
    with suppress(Unreachable), client.pipeline(transaction=False) as pipe:
        pipe.zadd(_KEY, {_member(kinds, type): now})
        pipe.zremrangebyscore(_KEY, 0, now - LISTED_S)
        pipe.execute()


def leave(client: Redis, kinds: Iterable[str], *, type: str | None = None) -> None:
    """Removes this process, which is about to end; its arguments are those of `beat`."""
    with suppress(Unreachable):
        client.zrem(_KEY, _member(kinds, type))


def processes(client: Redis) -> list[Process]:
    """Returns the live processes, and those that are gone for less than LISTED_S and were not replaced.

    They are sorted by type, host, number and pid. Raises redis.Unreachable.
    """
    now = time.time()
    members = cast(list[Any], client.zrangebyscore(_KEY, now - LISTED_S, "+inf", withscores=True))
    found = [_process(member, seen_at, now) for member, seen_at in members]
    taken = {process.place for process in found if process.alive}
    listed = [process for process in found if process.alive or process.place not in taken]
    return sorted(listed, key=lambda each: (each.type, each.host, each.number or 0, each.pid))


def count_workers(processes: Iterable[Process]) -> dict[str, int]:
    """Returns how many workers of each kind are alive."""
    kinds = [kind for process in processes if process.alive for kind in process.kinds]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _member(kinds: Iterable[str], type: str | None) -> bytes:
    kinds = sorted(kinds)
    name, _, number = os.environ.get("PROCESS_NAME", "").partition(".")
    type = type or kinds[0]
    numbered = int(number) if name == type and number.isdecimal() else None
    return to_json([type, numbered, socket.gethostname(), os.getpid(), kinds])


def _process(member: bytes, seen_at: float, now: float) -> Process:
    type, number, host, pid, kinds = from_json(member)
    last_seen_at = datetime.fromtimestamp(seen_at, UTC)
    return Process(type, number, host, pid, tuple(kinds), last_seen_at, now - seen_at < EXPIRES_S)
