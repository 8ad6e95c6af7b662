"""Job runs: when each periodic job last finished."""

from datetime import datetime

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class JobRun(postgres.Model, table="admin.job_runs"):
    """The last run of a periodic job."""

    name = peewee.CharField(100, primary_key=True)
    ended_at = DateTimeTZField(null=True)


def record_enqueued(name: str) -> None:
    """Records that there is such a job, and locks nothing if that is known."""
    JobRun.insert(name=name).on_conflict_ignore().execute()


def record_finished(name: str) -> None:
    """Records that a job has finished."""
    update = JobRun.update(ended_at=peewee.fn.clock_timestamp())
    update.where(JobRun.name == name).execute()


def last_finished() -> dict[str, datetime | None]:
    """Returns when each periodic job last finished; None if it never did."""
    return {row.name: row.ended_at for row in JobRun.select().order_by(JobRun.name)}
