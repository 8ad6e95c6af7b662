"""How the whole is, for operators: what waits, who works, what must hold."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from falcon import Request
from redis import Redis

from actors import audit
from api.admin import answers
from api.gateway.operation import operation
from api.openapi.document import VERSION
from api.policies import Permission
from db import operating, presence, redis, subscriptions, times

# How long looking for one invariant may take, in seconds: of everything, not only of what is new.
_PATIENCE = 60


@dataclass
class AdminHealth:
    """GET /admin/health"""

    client: Redis

    @operation(Permission.OPERATE, "Health.", name="getAdminHealth", gives=answers.AdminHealth)
    def on_get(self, _req: Request) -> dict[str, Any]:
        """Stores, queues, workers, jobs. Without a database there is no answer but a 503."""
        waits = operating.backlog()
        now = times.now()
        try:
            workers, wire = presence.alive(self.client), "ok"
        except redis.Unreachable:
            workers, wire = {}, "down"
        oldest = waits["oldest"]
        return {
            "database": "ok",
            "redis": wire,
            "version": VERSION,
            "queues": waits["queues"],
            "oldestPromiseSeconds": round((now - oldest).total_seconds(), 3) if oldest else None,
            "deadPromises": waits["dead"],
            "needsReview": waits["in_review"],
            "missedEvents": len(subscriptions.missed()),
            "workers": workers,
            "scheduler": {"lastRuns": {name: times.text(at) for name, at in operating.runs().items()}},
        }


class Invariants:
    """GET /admin/invariants"""

    @operation(Permission.OPERATE, "Invariants.", name="getInvariants", gives=answers.Invariants)
    def on_get(self, _req: Request) -> dict[str, Any]:
        """What must hold whatever happens, looked at now. What is under way is given a minute."""
        now = times.now()
        standings = [operating.check(name, now, seconds=_PATIENCE) for name in operating.INVARIANTS]
        standings.append(_audit_chain(now))
        return {
            "ok": all(it.ok for it in standings),
            "checkedAt": times.text(now),
            "invariants": [
                {"name": it.name, "ok": it.ok, "count": it.count, "offenders": list(it.offenders)}
                for it in standings
            ],
        }


def _audit_chain(now: datetime) -> operating.Standing:
    broken = audit.verify().broken
    ids = [str(broken.id)] if broken and broken.id else []
    return operating.Standing("the_audit_log_is_whole", int(broken is not None), ids, now)
