"""Which worker processes are alive: each writes a heartbeat to Redis every few seconds, and it expires."""

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from redis import Redis

from db.leases import process_name
from db.redis import Unreachable

# A sorted set: the members are processes, the scores the times of their last heartbeats.
_KEY = "paywright:workers"
# A worker without a heartbeat for this long counts as gone.
EXPIRES_S = 15
INTERVAL_S = 5


def beat(client: Redis, kinds: Iterable[str]) -> None:
    """Records that this process is alive and which kinds of work it does, if Redis is available."""
    with suppress(Unreachable):
        client.zadd(_KEY, {_member(kind): time.time() for kind in kinds})
        client.zremrangebyscore(_KEY, 0, time.time() - EXPIRES_S)


def leave(client: Redis, kinds: Iterable[str]) -> None:
    """Removes this process, which is about to end."""
    with suppress(Unreachable):
        client.zrem(_KEY, *map(_member, kinds))


def alive(client: Redis) -> dict[str, int]:
    """Returns how many workers of each kind are alive. Raises redis.Unreachable."""
    members = cast(list[bytes], client.zrangebyscore(_KEY, time.time() - EXPIRES_S, "+inf"))
    kinds = [member.decode().partition("@")[0] for member in members]
    return {kind: kinds.count(kind) for kind in kinds}


def _member(kind: str) -> str:
    return f"{kind}@{process_name()}"
