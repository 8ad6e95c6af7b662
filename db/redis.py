"""The connection to Redis: the wire, never the truth; it fails fast and is never waited for."""

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

Unreachable = RedisError


def connect(url: str, *, timeout: float = 0.5) -> Redis:
    """A client with its own pool. `timeout` in seconds bounds connecting and each answer.

    redis-py 8 retries a refused connection for seconds by default; the door cannot wait that long, and the
    journal retries better.
    """
    return Redis(
        connection_pool=ConnectionPool.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            health_check_interval=0,
        )
    )
