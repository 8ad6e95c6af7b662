"""The connection to Redis, a transport only: calls fail fast, and nothing is lost while Redis is away."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from db.breaker import Breaker

Unreachable = RedisError

# How long a request waits for Redis. Every request can be answered without it.
REQUEST_TIMEOUT_S = 0.1

# The key that `check_writable` writes, and when it expires.
_HEALTH_KEY, _HEALTH_KEY_EXPIRES_S = "paywright:health", 10

# The breaker of each server by its URL: all clients of a process share it.
_breakers: dict[str, Breaker] = {}


class Suspended(RedisError):
    """Redis failed a moment ago and is not called now."""


class Client(Redis):
    """A client with the circuit breaker of its server."""

    def __init__(self, breaker: Breaker, **options: Any) -> None:
        super().__init__(**options)
        self.breaker = breaker


def connect(url: str, *, timeout: float = 0.5) -> Client:
    """Returns a client with its own pool. `timeout`, in seconds, bounds connecting and each answer.

    Retries are off: redis-py 8 retries a refused connection for seconds, which no request can wait for, and
    the relay sends jobs again anyway.
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
def guarded(client: Client) -> Iterator[None]:
    """Runs the block unless Redis failed a moment ago. Raises Suspended, or what the block raises.

    While Redis hangs or refuses to write, one request a second waits for it, and the others do not.
    """
    if not client.breaker.allows():
        raise Suspended("redis did not answer a moment ago")
    try:
        yield
    except RedisError:
        client.breaker.record_failure()
        raise
    client.breaker.record_success()


def check_writable(client: Client) -> None:
    """Writes a key. Raises Unreachable.

    A Redis that is full, or a replica, answers every read and refuses each request that counts or sends.
    """
    client.set(_HEALTH_KEY, 1, ex=_HEALTH_KEY_EXPIRES_S)
