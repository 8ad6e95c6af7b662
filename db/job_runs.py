"""Job runs: when each periodic job was last enqueued, and when it last finished."""

from datetime import datetime

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class JobRun(postgres.Model, table="admin.job_runs"):
    """The last run of a periodic job."""

    name = peewee.CharField(100, primary_key=True)
    enqueued_at = DateTimeTZField(null=False)
    ended_at = DateTimeTZField(null=True)


def record_enqueued(name: str, at: datetime) -> None:
    """Records when a job was enqueued."""
    insert = JobRun.insert(name=name, enqueued_at=at)
    insert.on_conflict(conflict_target=[JobRun.name], preserve=[JobRun.enqueued_at]).execute()


def record_finished(name: str) -> None:
    """Records that a job has finished."""
    update = JobRun.update(ended_at=peewee.fn.clock_timestamp())
    update.where(JobRun.name == name).execute()


def last_finished() -> dict[str, datetime | None]:
    """Returns when each periodic job last finished; None if it never did."""
    return {row.name: row.ended_at for row in JobRun.select().order_by(JobRun.name)}
