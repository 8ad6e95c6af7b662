"""How the whole is, for operators: what waits, who works, what must hold."""

from dataclasses import dataclass
from typing import Any

from falcon import Request

from actors import audit, invariant_checks
from actors.jobs import queues, transaction
from api.admin import answers
from api.http.operation import operation
from api.openapi.document import VERSION
from api.security.permissions import Permission
from db import backlog, heartbeats, invariants, job_runs, leases, redis
from db.core import times


@dataclass
class AdminHealth:
    """GET /admin/health"""

    client: redis.Client

    @operation(Permission.OPERATE, "Health.", name="getAdminHealth", response=answers.AdminHealth)
    def on_get(self, _req: Request) -> dict[str, Any]:
        """Stores, queues, workers, jobs. Without a database there is no answer but a 503."""
        waits = backlog.measure(queues())
        now = times.now()
        try:
            with redis.asked(self.client):
                redis.ask_to_write(self.client)
                workers, redis_client = heartbeats.alive(self.client), "ok"
        except redis.Unreachable:
            workers, redis_client = {}, "down"
        ages = {name: times.age_s(at, now) for name, at in waits.oldest.items()}
        runs = job_runs.last_finished().items()
        return {
            "database": "ok",
            "redis": redis_client,
            "version": VERSION,
            "queues": waits.waiting,
            "queueAgeSeconds": ages,
            "oldestJobSeconds": max(ages.values()) if any(waits.oldest.values()) else None,
            "deadJobs": sum(waits.dead.values()),
            "deadJobsByName": waits.dead,
            "needsReview": waits.in_review,
            "missedEvents": waits.missed,
            "workers": workers,
            "scheduler": {
                "leader": leases.holder("scheduler"),
                "lastRuns": {name: times.iso(at) if at else None for name, at in runs},
            },
        }


class Invariants:
    """GET, POST /admin/invariants"""

    @operation(Permission.OPERATE, "Invariants.", name="getInvariants", response=answers.Invariants)
    def on_get(self, _req: Request) -> dict[str, Any]:
        """What must hold whatever happens, as it stood at the last look, which is made each minute.

        It is looked at what changed in the last day; what is under way is given a minute. A long audit log is
        verified whole once a day.
        """
        return _standings()

    @operation(
        Permission.OPERATE,
        "The invariants are looked at.",
        name="checkInvariants",
        status=202,
        response=answers.Invariants,
    )
    def on_post(self, _req: Request) -> dict[str, Any]:
        """Looks anew, the whole audit log included: each `checkedAt` says when that was done.

        The answer is how all stood at the last look.
        """
        with transaction():
            # Two who ask in the same second share one look.
            invariant_checks.enqueue_checks(times.iso(times.now().replace(microsecond=0)), whole_log=True)
            audit.record(audit.AuditAction.INVARIANTS_CHECKED)
        return _standings()


def _standings() -> dict[str, Any]:
    standings = invariants.statuses(times.now())
    looks = [it.checked_at for it in standings]
    known = [at for at in looks if at is not None]
    return {
        "ok": all(it.ok for it in standings),
        "checkedAt": times.iso(min(known)) if len(known) == len(looks) else None,
        "invariants": [
            {
                "name": it.name,
                "ok": it.ok,
                "count": it.count,
                "checkedAt": times.iso(it.checked_at) if it.checked_at else None,
                "offenders": list(it.offenders),
                **({"reason": it.reason} if it.reason else {}),
            }
            for it in standings
        ],
    }
