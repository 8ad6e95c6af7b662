"""Which workers are alive: each says so every few seconds, in Redis, and is forgotten when it stops."""

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from redis import Redis

from db.redis import Unreachable

_KEY = "paywright:workers"
# Seconds after which a silent worker counts as gone.
EXPIRES_S = 15
# How often a worker speaks, in seconds.
INTERVAL_S = 5


def beat(client: Redis, kinds: Iterable[str]) -> None:
    """Says that this process is alive, and what it serves; a Redis that is away does not hear it."""
    with suppress(Unreachable):
        client.zadd(_KEY, {_name(kind): time.time() for kind in kinds})
        client.zremrangebyscore(_KEY, 0, time.time() - EXPIRES_S)


def leave(client: Redis, kinds: Iterable[str]) -> None:
    """Says that this process stops."""
    with suppress(Unreachable):
        client.zrem(_KEY, *map(_name, kinds))


def _name(kind: str) -> str:
    return f"{kind}@{socket.gethostname()}:{os.getpid()}"


def alive(client: Redis) -> dict[str, int]:
    """How many workers of each kind are alive. Raises redis.Unreachable."""
    names = cast(list[bytes], client.zrangebyscore(_KEY, time.time() - EXPIRES_S, "+inf"))
    kinds = [name.decode().partition("@")[0] for name in names]
    return {kind: kinds.count(kind) for kind in kinds}
