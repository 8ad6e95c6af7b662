"""GET /admin/health; GET, POST /admin/invariants."""

from dataclasses import dataclass

from falcon import Request
from pydantic import MISSING

from actors import audit, invariant_checks
from actors.all_jobs import queues
from actors.jobs import transaction
from api.admin import schemas
from api.http.operation import Operation
from api.security.permissions import Permission
from db import backlog, heartbeats, invariants, job_runs, leases, redis
from db.core import VERSION, times


@dataclass
class AdminHealth:
    """GET /admin/health."""

    client: redis.Client

    @Operation(Permission.OPERATE, "Health.", name="getAdminHealth")
    def on_get(self, _req: Request) -> schemas.AdminHealth:
        """Get the state of stores, queues, workers and scheduler.

        Answered with 503 while the database is down.
        """
        jobs = backlog.measure(queues())
        now = times.now()
        try:
            with redis.guarded(self.client):
                redis.check_writable(self.client)
                workers = heartbeats.alive(self.client)
                redis_up = True
        except redis.Unreachable:
            workers, redis_up = {}, False
        ages_s = {queue: times.age_s(since, now) for queue, since in jobs.oldest.items()}
        return schemas.AdminHealth(
            database="ok",
            redis="ok" if redis_up else "down",
            version=VERSION,
            queues=jobs.waiting,
            queue_age_seconds=ages_s,
            oldest_job_seconds=max(ages_s.values()) if any(jobs.oldest.values()) else None,
            dead_jobs=sum(jobs.dead.values()),
            dead_jobs_by_name=jobs.dead,
            needs_review=jobs.in_review,
            missed_events=jobs.missed,
            workers=workers,
            scheduler=schemas.SchedulerStatus(
                leader=leases.holder("scheduler"), last_runs=job_runs.last_finished()
            ),
        )


class Invariants:
    """GET, POST /admin/invariants."""

    @Operation(Permission.OPERATE, "Invariants.", name="getInvariants")
    def on_get(self, _req: Request) -> schemas.Invariants:
        """Get the results of the last invariant checks.

        Checks run every minute and look at the changes of the last day; changes younger than a minute may
        still be in progress. A long audit log is verified whole once a day.
        """
        return _results()

    @Operation(Permission.OPERATE, "Invariant checks started.", name="checkInvariants", status=202)
    def on_post(self, _req: Request) -> schemas.Invariants:
        """Start the invariant checks.

        Checks everything anew, the whole audit log included. The response holds the results of the last
        checks; get the invariants again until `checkedAt` is new.
        """
        with transaction():
            # The run is named by the second: requests within one second share one run.
            invariant_checks.enqueue_checks(times.iso(times.now().replace(microsecond=0)), whole_log=True)
            audit.record(audit.AuditAction.INVARIANTS_CHECKED)
        return _results()


def _results() -> schemas.Invariants:
    results = [
        schemas.Invariant.from_record(status, reason=status.reason or MISSING)
        for status in invariants.statuses(times.now())
    ]
    checks = [result.checked_at for result in results if result.checked_at]
    return schemas.Invariants(
        ok=all(result.ok for result in results),
        checked_at=min(checks) if len(checks) == len(results) else None,
        invariants=results,
    )
