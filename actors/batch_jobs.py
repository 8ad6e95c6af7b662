"""Batch jobs: change our data for many jobs of one name in one transaction.

    class Beginning(BatchEntry):
        payment_id: UUID

    @batch_job("payments.begin", Beginning, queue="payments")
    def begin(entries: Sequence[Beginning]) -> None: ...

    with transaction():
        enqueue(begin.job(Beginning(payment_id=payment.id)))

One message in Redis wakes a worker for all jobs of the name. The worker does the jobs that wait in one
transaction, up to BATCH_SIZE. The function should run a fixed number of statements, however many entries it
gets: then two hundred jobs cost about as much as one.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from uuid import UUID

import structlog
from pydantic import BaseModel, Field

from actors import broker, queue_state, tracing, worker_threads
from actors.jobs import JobKind, transaction
from actors.worker_threads import Turn
from db import job_claims, postgres
from db.core import request_context
from db.core.errors import DomainError
from db.core.ids import uuid7
from db.job_journal import Job

# How many jobs are done in one transaction.
BATCH_SIZE = 200
# How long a worker of ordered jobs waits for more jobs. The other jobs of the same transactions go first: a
# payment is begun before its creation is written to the logs.
_GATHER_S = 0.008

log = structlog.get_logger(__name__)


class BatchEntry(BaseModel):
    """The arguments of a batch job, with the job's id and the request that caused it.

    Of two entries that are enqueued with one id, the second is dropped.
    """

    id: UUID = Field(default_factory=uuid7)
    request_id: str | None = Field(default_factory=lambda: request_context.current().request_id)
    trace: str | None = Field(default_factory=lambda: request_context.current().trace)


E = TypeVar("E", bound=BatchEntry)
# Fields of an entry that are columns of the job's row, and not among its arguments.
_COLUMNS = {"id", "request_id", "trace"}


def job_of(entry: BatchEntry, name: str, queue: str) -> Job:
    """Returns the job whose arguments are this entry."""
    args = entry.model_dump(mode="json", exclude=_COLUMNS)
    return Job(entry.id, name, queue, args, entry.request_id, entry.trace, shared=True)


def entry_of(job: Job, entry: type[E]) -> E:
    """Returns the entry that a job was made of; `job_of` is the inverse."""
    return entry.model_validate({**job.args, "id": job.id, "request_id": job.request_id, "trace": job.trace})


class BatchJob(JobKind, Generic[E]):
    """A kind of job that is done in batches, by any number of processes, and by one thread in each of them.

    If a batch fails, each of its jobs is done alone, so that a faulty job does not stop the others. A refusal
    (DomainError) of a job that is done alone is an outcome: the job is removed.
    """

    _in_order = False
    # Errors for which no job of a batch is to blame: its jobs are not done alone.
    _outages: tuple[type[Exception], ...] = (postgres.DatabaseUnavailable,)

    def __init__(
        self, function: Callable[[Sequence[E]], None], name: str, entry: type[E], queue: str
    ) -> None:
        super().__init__(name, queue)
        self._function = function
        self._entry = entry
        self._turn = Turn()
        # Jobs that messages named. A failed job is left out of batches until a message names it again.
        self._requested: deque[UUID] = deque()
        self._after_commit: Callable[[], object] = lambda: None

    def after_commit(self, function: Callable[[], object]) -> None:
        """Decorates the function that the same thread calls after the commit of each batch."""
        self._after_commit = function

    def job(self, entry: E) -> Job:
        """Builds the job of this entry, for `enqueue`."""
        return job_of(entry, self.name, self.queue)

    def perform(self, id: UUID) -> None:
        with postgres.connection():
            self._do_alone(id)

    def handle(self, id: UUID) -> None:
        """Does all waiting jobs of the name; leaves them to the thread of this process that is doing so."""
        self._requested.append(id)
        self._turn.run(self._do_all)

    def _do_all(self) -> None:
        """Does batches until no job waits, or the queue is paused."""
        requested = [self._requested.popleft() for _ in range(len(self._requested))]
        with postgres.connection():
            more = self._do_first(requested)
            while more:
                worker_threads.made_progress()
                if queue_state.set_aside(self.queue, self.name):
                    return
                more = self._do_batch([])

    def _do_first(self, requested: Sequence[UUID]) -> bool:
        """Does the first batch after a message; returns whether more jobs may wait.

        The wake-up is cleared after the batch, so that its jobs do not wait for Redis. A job that is
        committed in between sends no message, and no other process learns of it: so the journal is read
        again.
        """
        try:
            more = self._do_batch(requested)
        finally:
            broker.clear_wakeup(self.name)
        return more or job_claims.waits(self.name)

    def _do_batch(self, requested: Sequence[UUID]) -> bool:
        """Does one batch: the first jobs, and the requested ones even if they failed before.

        Returns whether more jobs may wait.
        """
        jobs: list[Job] = []
        try:
            with transaction():
                if not self._may_claim():
                    return False
                jobs = job_claims.claim_first(self.name, BATCH_SIZE, requested, in_order=self._in_order)
                self._write(jobs)
        except self._outages:
            raise
        except Exception:
            if not jobs:
                raise
            for job in jobs:
                self._do_alone(job.id)
        else:
            queue_state.count_finished(self.queue, len(jobs))
        if jobs:
            self._after_commit()
        return self._may_have_more(jobs)

    def _may_claim(self) -> bool:
        return True

    def _may_have_more(self, jobs: Sequence[Job]) -> bool:
        return bool(jobs) and (len(jobs) >= BATCH_SIZE or jobs[0].attempts > 0)

    def _do_alone(self, id: UUID) -> None:
        """Does one job in a transaction of its own; records its failure, and removes a refused job."""
        try:
            with transaction():
                job = job_claims.claim(id) if self._may_claim() else None
                self._write([job] if job else [])
            queue_state.count_finished(self.queue, 1 if job else 0)
        except postgres.DatabaseUnavailable:
            raise
        except DomainError as refusal:
            self._remove_refused(id, refusal)
        except Exception as error:
            self._record_failure(id, error)

    def _write(self, jobs: Sequence[Job]) -> None:
        """Calls the function with the entries of these jobs, in the open transaction."""
        if jobs:
            with tracing.spans_of(jobs) as traced:
                self._function([entry_of(job, self._entry) for job in traced])


class OrderedBatchJob(BatchJob[E]):
    """A batch job whose jobs are done in the order of enqueueing, by one process at a time.

    An advisory lock keeps other processes out: a job that numbers or chains rows must be their only writer.
    """

    _in_order = True
    # After one of these no job is done alone and postponed: that would change the order.
    _outages = postgres.TRANSIENT_ERRORS

    def perform(self, id: UUID) -> None:
        """Does all jobs that wait, this one included: an earlier one must not be done after it."""
        self.handle(id)

    def handle(self, id: UUID) -> None:
        """Does all jobs of the name that wait, after a moment."""
        worker_threads.rest(_GATHER_S)
        super().handle(id)

    def _do_first(self, requested: Sequence[UUID]) -> bool:
        """Does the first batch after a message; returns whether more jobs may wait.

        Clears the wake-up first, because nobody waits for these jobs: a job that is committed later sends a
        message of its own.
        """
        broker.clear_wakeup(self.name)
        return self._do_batch(requested)

    def _may_claim(self) -> bool:
        return postgres.try_advisory_lock(self.name)

    def _may_have_more(self, jobs: Sequence[Job]) -> bool:  # noqa: ARG002
        # Another process may have found the lock taken after this one had read the journal, and has given up.
        # So each process reads the journal again after it has released the lock.
        return job_claims.waits(self.name)

    def _record_failure(self, id: UUID, error: BaseException, *, attempts: int | None = None) -> None:
        if isinstance(error, postgres.TRANSIENT_ERRORS):
            log.warning("database unavailable, batch will be retried", job=self.name, error=str(error))
        else:
            super()._record_failure(id, error, attempts=attempts)


def batch_job(
    name: str, entry: type[E], *, queue: str, ordered: bool = False
) -> Callable[[Callable[[Sequence[E]], None]], BatchJob[E]]:
    """Declares a job that changes our data for many entries in one transaction."""
    kind = OrderedBatchJob if ordered else BatchJob
    return lambda function: kind(function, name, entry, queue)
