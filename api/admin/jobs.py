"""The routes under /admin/jobs: the jobs that wait, run, have failed or are dead."""

from typing import Annotated, Any
from uuid import UUID

from falcon import Request
from pydantic import Field

from actors import job_operations
from actors.job_operations import JobNotDead, JobNotFailed
from actors.jobs import QueueName, load_all
from api.http.fields import IdInput, RequestBody
from api.http.operation import Operation
from api.http.pages import PageQuery, ResponsePage
from api.security.permissions import Permission
from db import listed_jobs
from db.core.errors import NotFound
from db.core.json_model import Id, JsonModel, Timestamp
from db.listed_jobs import Filter, JobState, ListedJob

JobName = Annotated[str, Field(max_length=100, pattern="^[ -~]+$", examples=["payments.charge"])]


class JobsQuery(PageQuery):
    """Filters. `paymentId` finds the jobs about one payment."""

    queue: QueueName | None = None
    name: JobName | None = None
    state: JobState | None = None
    payment_id: IdInput | None = None


class Job(JsonModel):
    """A job that is not done.

    `waiting`: due now, or later at `dueAt`. `running`: a worker calls the outside for it. `failed`: failed,
    with its next attempt at `dueAt`. `dead`: failed at every attempt. `args` says what the job is about;
    `[hidden]` is in place of personal data and secrets. `attempts` counts the attempts after the first one.
    """

    id: Id
    name: Annotated[str, Field(examples=["payments.charge"])]
    queue: Annotated[str, Field(examples=[QueueName.PSP])]
    state: Annotated[JobState, Field(examples=["failed"])]
    payment_id: Id | None
    args: Annotated[dict[str, Any], Field(examples=[{"paymentId": "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"}])]
    attempts: Annotated[int, Field(ge=0, examples=[2])]
    error: Annotated[str | None, Field(examples=["ProviderError: 503"])]
    enqueued_at: Timestamp
    due_at: Timestamp
    dead_at: Timestamp | None
    request_id: Annotated[str | None, Field(examples=["a54f0afe"])]

    @classmethod
    def of(cls, job: ListedJob) -> "Job":
        """Returns the response for a job, with its arguments as operators may see them."""
        return cls.from_record(
            job,
            payment_id=job.args.get("payment_id"),
            args=job_operations.shown_arguments(job.name, job.args),
            enqueued_at=job.created_at,
        )


class JobPage(ResponsePage[Job]):
    """One page of jobs, newest first."""


class DeadJobs(RequestBody):
    """Whose dead jobs are retried."""

    name: JobName


class RetriedJobs(JsonModel):
    """How many jobs are retried."""

    retried: Annotated[int, Field(ge=0, examples=[3])]


@Operation(Permission.OPERATE, "Jobs.")
def list_jobs(_req: Request, query: JobsQuery) -> JobPage:
    """List jobs.

    The jobs that are not done, newest first: a job that is done is in no list. `state` `running` and
    `paymentId` search the first 10,000 jobs of each name. A job that changes only our own data is
    `waiting` until it is done.
    """
    wanted = Filter(query.queue, query.name, query.state, query.payment_id)
    page = listed_jobs.page(wanted, limit=query.limit, after=query.after, job_names=list(load_all()))
    return JobPage.of(page, Job.of)


@Operation(Permission.OPERATE, "Job.", errors=(NotFound,), etag=True)
def get_job(_req: Request, job_id: UUID) -> Job:
    """Get a job.

    A job that is done is not found.
    """
    job = listed_jobs.find(job_id)
    if job is None:
        raise NotFound(thing="job")
    return Job.of(job)


@Operation(Permission.OPERATE, "Job dropped.", errors=(JobNotDead,))
def drop_job(_req: Request, job_id: UUID) -> None:
    """Drop a dead job.

    Its work is never done, unless the reconciler finds that a payment needs it.
    """
    job_operations.drop(job_id)


@Operation(Permission.OPERATE, "Job retried.", errors=(JobNotFailed,))
def retry_job(_req: Request, job_id: UUID) -> RetriedJobs:
    """Retry a job.

    A dead job gets a new set of attempts, and a failed one does not wait for its next attempt: both are
    due at once. A job that is `waiting` or `running` is refused.
    """
    job_operations.retry(job_id)
    return RetriedJobs(retried=1)


@Operation(Permission.OPERATE, "Jobs retried.")
def retry_dead_jobs(_req: Request, body: DeadJobs) -> RetriedJobs:
    """Retry dead jobs.

    Gives all dead jobs of one name a new set of attempts, due at once.
    """
    return RetriedJobs(retried=job_operations.retry_dead(body.name))
