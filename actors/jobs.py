"""Jobs: enqueued inside a transaction, performed by workers. Three kinds: transactional, batch and external.

A job is a row of `journal.jobs`, inserted by the transaction that makes the work due. A message in Redis only
carries the id of that row: the message may arrive late, twice or never, and the job still takes effect once.

    @transactional_job("payments.begin", queue="payments")
    def begin(payment_id: UUID) -> None: ...

    with transaction():
        enqueue(begin.job(payment.id))

The other kinds are in actors/batch_jobs.py and actors/external_jobs.py.
"""

import inspect
import pkgutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Generic, ParamSpec
from uuid import UUID

import structlog
from pydantic import validate_call
from pydantic_core import to_jsonable_python

import actors
from actors import broker, queue_state, tracing
from db import job_claims, job_journal, job_runs, postgres
from db.core import request_context
from db.core.errors import DomainError
from db.core.ids import uuid7
from db.job_journal import Job

# The key of a scheduled job: however often a job is scheduled, one of its name waits.
SCHEDULED_KEY = "scheduled"
# After this time, a transaction that is open now has ended (statement and idle timeouts).
IN_FLIGHT_S = 15.0
# How long a worker pauses when the database is unavailable: another process may have a connection.
_DATABASE_UNAVAILABLE_PAUSE_S = 3.0

P = ParamSpec("P")
log = structlog.get_logger(__name__)


@dataclass
class _Enqueued:
    """The jobs of the open transaction, in order, and how many of them are in the journal already."""

    jobs: list[Job] = field(default_factory=list)
    inserted: int = 0


_enqueued: ContextVar[_Enqueued | None] = ContextVar("enqueued", default=None)


@contextmanager
def transaction() -> Iterator[None]:
    """Runs the block in a transaction; inserts its jobs with the commit, then sends them. Does not nest."""
    if _enqueued.get() is not None:
        raise RuntimeError("A transaction is open already. Transactions do not nest, and a job has its own.")
    enqueued = _Enqueued()
    try:
        _enqueued.set(enqueued)
        with postgres.database.atomic():
            yield
            job_journal.insert_with_commit(enqueued.jobs[enqueued.inserted :])
    finally:
        _enqueued.set(None)
    broker.try_push([job for job in enqueued.jobs if not job.after])


def take_enqueued() -> list[Job]:
    """Returns the enqueued jobs that are not inserted yet; the caller inserts them by its own statement.

    They are sent after the commit, like all others.
    """
    enqueued = _enqueued.get()
    assert enqueued is not None, "a transaction is open"
    jobs = enqueued.jobs[enqueued.inserted :]
    enqueued.inserted = len(enqueued.jobs)
    return jobs


def enqueue(job: Job) -> None:
    """Adds a job to the open transaction: `enqueue(begin.job(payment.id))`.

    Raises RuntimeError outside `transaction()`: the job must be committed with the change that causes it.
    """
    enqueued = _enqueued.get()
    if enqueued is None:
        raise RuntimeError(
            f"{job.name} was enqueued outside a transaction. Call enqueue inside transaction()."
        )
    enqueued.jobs.append(job)


def find_enqueued(name: str) -> Job | None:
    """Returns the job of this name that the open transaction has still to insert; None if there is none."""
    enqueued = _enqueued.get()
    waiting = enqueued.jobs[enqueued.inserted :] if enqueued else []
    return next((job for job in waiting if job.name == name), None)


def failure_text(error: BaseException) -> str:
    """Returns what is stored of an error: its class and the first line of its message, shortened."""
    reason = str(error).strip().partition("\n")[0].replace("\0", "")
    return f"{type(error).__name__}: {reason}"[:500]


class QueueName(StrEnum):
    """The queues of all jobs."""

    PAYMENTS = "payments"
    PSP = "psp"
    PSP_INQUIRIES = "psp-inquiries"
    EVENTS = "events"
    HOUSEKEEPING = "housekeeping"
    MAIL = "mail"


class JobKind(ABC):
    """A kind of job. A call handles a message about a job; `perform` does one job in this thread."""

    def __init__(self, name: str, queue: str) -> None:
        self.name = name
        self.queue = queue
        if self.name in registry:
            raise RuntimeError(f"Two jobs are named {self.name}.")
        registry[self.name] = self

    @abstractmethod
    def perform(self, id: UUID) -> None:
        """Does the job with this id; does nothing when it is done, dead, or claimed by another worker."""

    def handle(self, id: UUID) -> None:
        """Does the job of a message; in kinds whose jobs share messages, all jobs of the name."""
        self.perform(id)

    def __call__(self, id: str) -> None:
        """Handles a message; a failure is recorded, and the relay retries the job."""
        if queue_state.set_aside(self.queue, self.name, UUID(id)):
            return
        try:
            self.handle(UUID(id))
        except BaseException as error:
            self._record_failure(UUID(id), error)
            if not isinstance(error, Exception):
                raise

    def _record_failure(self, id: UUID, error: BaseException, *, attempts: int | None = None) -> None:
        """Logs a failure and postpones the job; pauses if the database is unavailable.

        Raises none of TRANSIENT_ERRORS: a failure that cannot be recorded is only logged.
        """
        if isinstance(error, postgres.DatabaseUnavailable):
            log.warning("database unavailable, job will be retried", job=self.name, error=str(error))
            time.sleep(_DATABASE_UNAVAILABLE_PAUSE_S)
            return
        log.error("job failed, will be retried", job=self.name, job_id=str(id), exc_info=error)
        try:
            with postgres.connection():
                job_journal.record_failure(id, failure_text(error), attempts=attempts)
        except postgres.TRANSIENT_ERRORS as unreachable:
            log.warning("job failure not recorded", job=self.name, job_id=str(id), error=str(unreachable))

    def _remove_refused(self, id: UUID, refusal: DomainError) -> None:
        """Removes a job whose refusal is its outcome; what it had changed is rolled back."""
        with transaction():
            job_claims.claim(id)
        queue_state.count_finished(self.queue, 1)
        log.info("job refused", job=self.name, job_id=str(id), reason=refusal.message)

    def _job(self, id: UUID, args: object) -> Job:
        """Builds a job of this kind, caused by the current request; `args` are its arguments by name."""
        cause = request_context.current()
        return Job(id, self.name, self.queue, to_jsonable_python(args), cause.request_id, cause.trace)


registry: dict[str, JobKind] = {}


class SingleJob(JobKind, Generic[P]):
    """A kind of job in one function: each job is one call of it, with arguments of its own."""

    def __init__(self, function: Callable[P, Job | None], name: str, queue: str) -> None:
        super().__init__(name, queue)
        self._signature = inspect.signature(function)
        self._function = validate_call(function)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Builds the job that calls the function with these arguments, for `enqueue`."""
        return self._job(uuid7(), self._signature.bind(*args, **kwargs).arguments)

    def scheduled(self) -> Job:
        """Builds the job that the scheduler enqueues; while one is waiting, a second is not inserted."""
        return self._job(uuid7(), {}).unique(SCHEDULED_KEY)

    def _call(self, job: Job) -> Job | None:
        return self._function(**job.args)  # type: ignore[call-arg]


class TransactionalJob(SingleJob[P]):
    """Changes our data in one transaction, which also removes the job and enqueues the jobs that follow.

    It takes effect exactly once: a second message finds no row. A refusal (DomainError) is an outcome, not a
    failure: the changes are rolled back, and the job is removed.
    """

    def perform(self, id: UUID) -> None:
        with postgres.connection():
            try:
                with transaction():
                    job = job_claims.claim(id)
                    if job is not None:
                        self._perform(job)
                        if job.id == job_journal.id_for_key(self.name, SCHEDULED_KEY):
                            job_runs.record_finished(self.name)
                queue_state.count_finished(self.queue, 1 if job else 0)
            except DomainError as refusal:
                self._remove_refused(id, refusal)

    def _perform(self, job: Job) -> None:
        with tracing.spans_of([job]) as [traced], request_context.for_request(traced):
            self._call(traced)


def transactional_job(name: str, *, queue: str) -> Callable[[Callable[P, None]], TransactionalJob[P]]:
    """Declares a job that changes our data in one transaction."""
    return lambda function: TransactionalJob(function, name, queue)


@cache
def load_all() -> dict[str, JobKind]:
    """Imports the modules of this package, which registers their jobs; returns all kinds by name."""
    for module in pkgutil.iter_modules(actors.__path__):
        # The module has no jobs, and imports the SDK of OpenTelemetry.
        if module.name != "span_export":
            import_module(f"actors.{module.name}")
    return registry


def queues() -> set[str]:
    """Returns the queues of all jobs."""
    return {kind.queue for kind in load_all().values()}


def names_of(kind: type, paused: Collection[str]) -> frozenset[str]:
    """Returns the names of the jobs of this kind, without those of paused queues."""
    jobs = load_all().items()
    return frozenset(name for name, job in jobs if isinstance(job, kind) and job.queue not in paused)
