"""Whether what serves requests is well: bare JSON, behind no gate that could refuse it."""

import threading
import time
from collections.abc import Callable
from typing import Literal

from falcon import Request, Response
from pydantic_core import to_json

from api.http.operation import raw_operation
from api.http.responses import ResponseModel
from db import health, heartbeats, postgres, redis
from db.core import times
from db.core.json_model import Timestamp

State = Literal["ok", "down"]

# The kinds of worker that a payment needs to come to its end.
NEEDED = frozenset({"payments", "psp", "events", "relay", "scheduler", "subscribers", "mail"})

# For how long a process answers with what it saw last, in seconds: however often it is asked, it asks little.
SEEN_FOR_S = 0.25


class ServiceHealth(ResponseModel):
    """Each part of it."""

    database: State
    redis: State
    workers: State


class HealthStatus(ResponseModel):
    """How the service is: `degraded` still takes payments, `down` does not."""

    status: Literal["ok", "degraded", "down"]
    timestamp: Timestamp
    services: ServiceHealth


class Health:
    """GET /health: `down` (503) without the database, `degraded` without Redis or a kind of worker."""

    def __init__(self, client: redis.Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._clock = client, clock
        self._lock = threading.Lock()
        self._seen: dict[str, State] = {}
        self._until = -1.0

    @raw_operation(response=HealthStatus, statuses=(200, 503))
    def on_get(self, _req: Request, resp: Response) -> None:
        """Asks each part what requests ask of it: to write."""
        services = self._services()
        others_ok = services["redis"] == services["workers"] == "ok"
        status = "down" if services["database"] == "down" else "ok" if others_ok else "degraded"
        resp.status = 503 if status == "down" else 200
        if status == "down":
            resp.set_header("Retry-After", "1")
        resp.content_type = "application/json"
        resp.data = to_json({"status": status, "timestamp": times.iso(times.now()), "services": services})

    def _services(self) -> dict[str, State]:
        # One thread looks; those that come meanwhile have the same answer.
        with self._lock:
            if self._clock() >= self._until:
                database, (redis_client, workers) = _database(), self._wire()
                self._seen = {"database": database, "redis": redis_client, "workers": workers}
                self._until = self._clock() + SEEN_FOR_S
            return self._seen

    def _wire(self) -> tuple[State, State]:
        try:
            with redis.guarded(self._redis):
                redis.check_writable(self._redis)
                alive = heartbeats.alive(self._redis)
        except redis.Unreachable:
            return "down", "down"
        return "ok", "ok" if alive.keys() >= NEEDED else "down"


def _database() -> State:
    try:
        with postgres.connection():
            health.write()
    except postgres.TRANSIENT_ERRORS:
        return "down"
    return "ok"
