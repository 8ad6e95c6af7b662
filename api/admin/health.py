"""The state of the installation: stores, queues, processes, scheduler, invariants."""

from dataclasses import dataclass
from typing import Annotated, Literal

from falcon import Request
from pydantic import MISSING, Field

from actors import audit, invariant_checks
from actors.audit import AuditAction
from actors.jobs import queues, transaction
from api.http.operation import Operation
from api.security.permissions import Permission
from db import backlog, config, heartbeats, invariants, job_runs, leases, redis, samples
from db.core import VERSION, times
from db.core.json_model import JsonModel, Timestamp


class SchedulerStatus(JsonModel):
    """The scheduler process in charge, null for none; when each of its jobs last finished."""

    leader: Annotated[str | None, Field(examples=["host-1:4711"])]
    last_runs: Annotated[
        dict[str, Timestamp | None], Field(examples=[{"payments.reconcile": "2026-01-31T09:30:00.125Z"}])
    ]


class Process(JsonModel):
    """A process, and when its last heartbeat came. `number` tells those of one type on a host apart.

    A process that sent none for 15 seconds is not `alive`; it is listed for ten minutes unless another one
    has taken its place.
    """

    type: Annotated[str, Field(examples=["payments"])]
    host: Annotated[str, Field(examples=["host-1"])]
    pid: Annotated[int, Field(examples=[4711])]
    number: Annotated[int | None, Field(examples=[1])]
    last_seen_at: Timestamp
    alive: bool


class QueueStatus(JsonModel):
    """A queue: how many jobs are unfinished, and when the oldest one that is due was created.

    `finishedPerMinute` covers the last minute; null where no sample was taken. A paused queue starts no job.
    `dead` counts jobs that failed at every attempt. Both counts end at 100,000.
    """

    name: Annotated[str, Field(examples=["payments"])]
    depth: Annotated[int, Field(ge=0, examples=[2])]
    oldest_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]
    finished_per_minute: Annotated[int | None, Field(ge=0, examples=[120])]
    paused: bool
    dead: Annotated[int, Field(ge=0, examples=[0])]


class AdminHealth(JsonModel):
    """The state of stores, queues and processes.

    `queues` counts unfinished jobs, up to 100,000 each. `queueAgeSeconds` is the age of the oldest job that
    is due, 0 for none. `workers` counts the live processes of each type.
    """

    database: Literal["ok"]
    redis: Literal["ok", "down"]
    version: Annotated[str, Field(examples=[VERSION])]
    queues: Annotated[dict[str, int], Field(examples=[{"payments": 2, "psp": 0}])]
    queue_age_seconds: Annotated[dict[str, float], Field(examples=[{"payments": 0.25, "psp": 0}])]
    oldest_job_seconds: Annotated[float | None, Field(examples=[0.25])]
    dead_jobs: Annotated[int, Field(ge=0, examples=[0])]
    dead_jobs_by_name: Annotated[dict[str, int], Field(examples=[{"mail.send": 1}])]
    needs_review: Annotated[int, Field(ge=0, examples=[0])]
    missed_events: Annotated[int, Field(ge=0, examples=[0])]
    workers: Annotated[dict[str, int], Field(examples=[{"payments": 1, "psp": 1}])]
    scheduler: SchedulerStatus
    processes: list[Process]
    queue_statuses: list[QueueStatus]


class Invariant(JsonModel):
    """A condition that must always hold: how many records violate it, and the ids of up to 20 of them.

    If the last check did not finish or is too old, `ok` is false, `count` is null and `reason` says why.
    `checkedAt` is null before the first check.
    """

    name: Annotated[str, Field(examples=["charged_once"])]
    ok: bool
    count: Annotated[int | None, Field(ge=0, examples=[0])]
    checked_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]
    offenders: Annotated[list[str], Field(max_length=20, examples=[[]])]
    reason: Annotated[str, Field(examples=["the check took longer than 5 s"])] | MISSING = MISSING


class Invariants(JsonModel):
    """Every invariant, as of its last check. `checkedAt` is the oldest of these checks."""

    ok: bool
    checked_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]
    invariants: list[Invariant]


@dataclass(frozen=True)
class InstallationHealth:
    """The routes of health and invariants."""

    client: redis.Client

    @Operation(Permission.OPERATE, "Health.")
    def get_admin_health(self, _req: Request) -> AdminHealth:
        """Get the state of stores, queues, workers and scheduler.

        Answered with 503 while the database is down.
        """
        jobs = backlog.measure(queues())
        now = times.now()
        try:
            with redis.guarded(self.client):
                redis.check_writable(self.client)
                processes, redis_up = heartbeats.processes(self.client), True
        except redis.Unreachable:
            processes, redis_up = [], False
        ages_s = {queue: times.age_s(since, now) for queue, since in jobs.oldest.items()}
        return AdminHealth(
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
            workers=heartbeats.count_workers(processes),
            scheduler=SchedulerStatus(
                leader=leases.holder(leases.SCHEDULER), last_runs=job_runs.last_finished()
            ),
            processes=[Process.model_validate(process) for process in processes],
            queue_statuses=_queue_statuses(jobs),
        )

    @Operation(Permission.OPERATE, "Invariants.")
    def get_invariants(self, _req: Request) -> Invariants:
        """Get the results of the last invariant checks.

        Checks run every minute and look at the changes of the last day; changes younger than a minute may
        still be in progress. A long audit log is verified whole once a day.
        """
        return _results()

    @Operation(Permission.OPERATE, "Invariant checks started.", status=202)
    def check_invariants(self, _req: Request) -> Invariants:
        """Start the invariant checks.

        Checks everything anew, the whole audit log included. The response holds the results of the last
        checks; get the invariants again until `checkedAt` is new.
        """
        with transaction():
            # The run is named by the second: requests within one second share one run.
            invariant_checks.enqueue_checks(times.iso(times.now().replace(microsecond=0)), whole_log=True)
            audit.record(AuditAction.INVARIANTS_CHECKED)
        return _results()


def _queue_statuses(jobs: backlog.Backlog) -> list[QueueStatus]:
    finished = samples.finished_per_minute(times.now())
    paused = config.read_paused_queues()
    return [
        QueueStatus(
            name=queue,
            depth=jobs.waiting.get(queue, 0),
            oldest_at=jobs.oldest.get(queue),
            finished_per_minute=None if finished is None else finished[queue],
            paused=queue in paused,
            dead=jobs.dead_in[queue],
        )
        for queue in sorted({*jobs.waiting, *jobs.dead_in})
    ]


def _results() -> Invariants:
    results = [
        Invariant.from_record(status, reason=status.reason or MISSING)
        for status in invariants.statuses(times.now())
    ]
    checks = [result.checked_at for result in results if result.checked_at]
    return Invariants(
        ok=all(result.ok for result in results),
        checked_at=min(checks) if len(checks) == len(results) else None,
        invariants=results,
    )
