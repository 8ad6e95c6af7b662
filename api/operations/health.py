"""GET /health and GET /maintenance: whether the service can take and complete payments, and change data."""

import threading
import time
from collections.abc import Callable
from typing import Literal

from falcon import Request, Response

from api.http.operation import Operation, RawOperation
from api.security.permissions import Permission
from db import config, heartbeats, postgres, redis
from db.config import ConfigKey
from db.core import times
from db.core.json_model import JsonModel, Timestamp

State = Literal["ok", "down"]

# The kinds of worker that a payment needs to complete.
REQUIRED_WORKERS = frozenset({"payments", "psp", "events", "relay", "scheduler", "subscribers", "mail"})

# For how long a check is reused: the route is public, and must not load the stores.
CACHED_FOR_S = 0.25


class ServiceHealth(JsonModel):
    """The state of each part. `workers` is down when a kind of worker is missing."""

    database: State
    redis: State
    workers: State


class HealthStatus(JsonModel):
    """The state of the service: `degraded` still accepts payments, `down` does not."""

    status: Literal["ok", "degraded", "down"]
    timestamp: Timestamp
    services: ServiceHealth


class Maintenance(JsonModel):
    """While `readOnly` is true, requests that change data get a 503 with `details.reason` `read_only`."""

    read_only: bool


class Health:
    """GET /health, which is bare JSON, and GET /maintenance."""

    def __init__(self, client: redis.Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._clock = client, clock
        self._lock = threading.Lock()
        self._services: ServiceHealth | None = None
        self._expires_at = 0.0

    @RawOperation(response=HealthStatus, statuses=(200, 503))
    def on_get(self, _req: Request, resp: Response) -> None:
        """Check the service.

        Each store is checked by a write, as a payment needs it. `down` is a 503; without Redis or a kind of
        worker the service is `degraded`.
        """
        services = self._checked()
        status: Literal["ok", "degraded", "down"] = "ok"
        if services.database == "down":
            status = "down"
            resp.status = 503
            resp.set_header("Retry-After", "1")
        elif "down" in (services.redis, services.workers):
            status = "degraded"
        resp.content_type = "application/json"
        health_status = HealthStatus(status=status, timestamp=times.now(), services=services)
        resp.data = health_status.model_dump_json().encode()

    @Operation(Permission.ANYONE, "Maintenance.", etag=True)
    def get_maintenance(self, _req: Request) -> Maintenance:
        """Get the state of maintenance.

        Up to a second old. Show it to users before they fill in a form.
        """
        return Maintenance(read_only=bool(config.value(ConfigKey.MAINTENANCE_READ_ONLY)))

    def _checked(self) -> ServiceHealth:
        # One thread checks; requests that arrive meanwhile wait for its result.
        with self._lock:
            if self._services is None or self._clock() >= self._expires_at:
                redis_state, workers = self._check_redis()
                self._services = ServiceHealth(database=_check_database(), redis=redis_state, workers=workers)
                self._expires_at = self._clock() + CACHED_FOR_S
            return self._services

    def _check_redis(self) -> tuple[State, State]:
        try:
            with redis.guarded(self._redis):
                redis.check_writable(self._redis)
                workers = heartbeats.count_workers(heartbeats.processes(self._redis))
        except redis.Unreachable:
            return "down", "down"
        return "ok", "ok" if workers.keys() >= REQUIRED_WORKERS else "down"


def _check_database() -> State:
    try:
        with postgres.connection():
            postgres.check_writable()
    except postgres.TRANSIENT_ERRORS:
        return "down"
    return "ok"
