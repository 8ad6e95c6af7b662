"""The connection to Redis: the wire, never the truth; it fails fast and is never waited for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from db.breaker import Breaker

Unreachable = RedisError

# How long a request may wait for Redis, in seconds: whatever it asks there can be done without.
REQUEST_TIMEOUT_S = 0.1

# What `ask_to_write` writes, and for how many seconds.
_WRITTEN, _WRITTEN_S = "paywright:health", 10

# One for each server: all clients of a process know what one of them found out.
_breakers: dict[str, Breaker] = {}


class Asleep(RedisError):
    """Redis did not answer a moment ago, and is not asked now."""


class Client(Redis):
    """A client, and whether its server is to be asked now."""

    def __init__(self, breaker: Breaker, **more: Any) -> None:
        super().__init__(**more)
        self.breaker = breaker


def connect(url: str, *, timeout: float = 0.5) -> Client:
    """A client with its own pool. `timeout` in seconds bounds connecting and each answer.

    redis-py 8 retries a refused connection for seconds by default; the door cannot wait that long, and the
    journal retries better.
    """
    return Client(
        _breakers.setdefault(url, Breaker()),
        connection_pool=ConnectionPool.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            health_check_interval=0,
        ),
    )


@contextmanager
def asked(client: Client) -> Iterator[None]:
    """Lets a request ask Redis in the block, where that is worth a try: of many requests that meet a Redis
    that hangs, or refuses to write, one a second waits for it. Raises Asleep for the others."""
    if not client.breaker.allows():
        raise Asleep("redis did not answer a moment ago")
    try:
        yield
    except RedisError:
        client.breaker.record_failure()
        raise
    client.breaker.record_success()


def ask_to_write(client: Client) -> None:
    """Writes a trifle: a Redis that is full, or a replica, answers every question, and refuses each request
    that counts or sends. Raises Unreachable."""
    client.set(_WRITTEN, 1, ex=_WRITTEN_S)
