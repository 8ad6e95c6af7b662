"""Whether what serves requests is well: bare JSON, behind no gate that could refuse it."""

from typing import Literal

from falcon import Request, Response
from pydantic_core import to_json
from redis import Redis

from api.answers import Answer, Moment
from api.gateway.operation import page
from db import postgres, presence, redis, times

State = Literal["ok", "down"]

# The kinds of worker that a payment needs to come to its end.
NEEDED = frozenset({"payments", "psp", "events", "relay", "scheduler", "hub", "mail"})


class Parts(Answer):
    """Each part of it."""

    database: State
    redis: State
    workers: State


class HealthReport(Answer):
    """How the service is: `degraded` still takes payments, `down` does not."""

    status: Literal["ok", "degraded", "down"]
    timestamp: Moment
    services: Parts


class Health:
    """GET /health: `down` (503) without the database, `degraded` without Redis or a kind of worker."""

    def __init__(self, client: Redis) -> None:
        self._redis = client

    @page(gives=HealthReport, statuses=(200, 503))
    def on_get(self, _req: Request, resp: Response) -> None:
        """Asks each part, briefly."""
        database, (wire, workers) = _database(), self._wire()
        status = "down" if database == "down" else "ok" if wire == workers == "ok" else "degraded"
        services = {"database": database, "redis": wire, "workers": workers}
        resp.status = 503 if status == "down" else 200
        if status == "down":
            resp.set_header("Retry-After", "1")
        resp.content_type = "application/json"
        resp.data = to_json({"status": status, "timestamp": times.text(times.now()), "services": services})

    def _wire(self) -> tuple[State, State]:
        try:
            alive = presence.alive(self._redis)
        except redis.Unreachable:
            return "down", "down"
        return "ok", "ok" if alive.keys() >= NEEDED else "down"


def _database() -> State:
    try:
        with postgres.connection():
            postgres.rows("SELECT 1")
    except postgres.Unreachable:
        return "down"
    return "ok"
