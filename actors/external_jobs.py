"""External jobs call the outside (PSP, mail, Redis). A kind is declared by one function, or by three.

    @external_job("mail.send_link", queue="mail")
    def send_link(user_id: UUID, link: str) -> Job | None: ...

    charge = ExternalBatchJob(
        "payments.charge", Charge, queue="psp", share="customer_id", prepare=begin, call=make, record=record
    )

actors/external_calls.py leases the jobs, calls these functions, and removes the jobs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, ParamSpec, TypeVar
from uuid import UUID

from actors.batch_jobs import BatchEntry, entry_of, job_of
from actors.external_calls import CallingKind
from actors.jobs import SingleJob, enqueue
from db.job_journal import Job

E = TypeVar("E", bound=BatchEntry)
Params = ParamSpec("Params")
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


class ExternalBatchJob(CallingKind[Prepared, Result], Generic[E, Prepared, Result]):
    """A kind of external job in three functions, so that many jobs are prepared and recorded together.

    `prepare` gets the entries of all jobs that are being leased, in the transaction that leases them. It
    returns for each entry the argument of `call`, or None if no call is needed: that job is removed. `call`
    runs without a transaction, in a thread of its own. `record` gets the results of all calls that have
    ended, each with its argument, in the transaction that removes their jobs, and may enqueue further jobs.
    It may get the result of one job twice. `share` names a field of the entry: jobs with the same value of
    this field occupy a limited part of the threads.
    """

    def __init__(
        self,
        name: str,
        entry: type[E],
        *,
        queue: str,
        share: str | None = None,
        prepare: Callable[[Sequence[E]], Sequence[Prepared | None]],
        call: Callable[[Prepared], Result],
        record: Callable[[Sequence[tuple[Prepared, Result]]], None],
    ) -> None:
        super().__init__(name, queue)
        self._entry = entry
        self.share = share
        self.prepare = lambda jobs: prepare([self._entry_of(job) for job in jobs])
        self.call, self.record = call, record

    def job(self, entry: E) -> Job:
        """Builds the job of this entry, for `enqueue`."""
        job = job_of(entry, self.name, self.queue)
        if self.share is None:
            return replace(job, share="")
        # The value of the shared field is stored in the column `share` alone, unless it is None.
        args = {name: value for name, value in job.args.items() if name != self.share or value is None}
        return replace(job, share=str(getattr(entry, self.share)), args=args)

    def _entry_of(self, job: Job) -> E:
        shared = {} if self.share is None else {self.share: job.share}
        return entry_of(replace(job, args={**shared, **job.args}), self._entry)


class ExternalJob(SingleJob[Params], CallingKind[Job, Job | None]):
    """A kind of external job in one function, which returns the job that records its result, or None."""

    def __init__(self, function: Callable[Params, Job | None], name: str, queue: str) -> None:
        super().__init__(function, name, queue)
        # No job needs preparation: the argument of its call is the job itself.
        self.prepare = list
        self.call = self._call
        self.record = _enqueue_returned

    def _job(self, id: UUID, args: object) -> Job:
        return replace(super()._job(id, args), shared=True, share="")


def _enqueue_returned(results: Sequence[tuple[Job, Job | None]]) -> None:
    for _job, following in results:
        if following is not None:
            enqueue(following)


def external_job(name: str, *, queue: str) -> Callable[[Callable[Params, Job | None]], ExternalJob[Params]]:
    """Declares a job that calls the outside in one function."""
    return lambda function: ExternalJob(function, name, queue)
