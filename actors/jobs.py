"""How work is promised, and the three ways it is done: @record, @records, @effect.

A promise is a row of the journal, written in the transaction that makes the work due. A message on the wire
only says which row to look at: it may come late, twice or never, and the work is still done once.
"""

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Generic, ParamSpec, Protocol, TypeVar
from uuid import UUID, uuid4

import structlog
from pydantic import BaseModel, validate_call
from pydantic_core import to_jsonable_python

from actors import broker, fair_share, job_leases, worker_threads
from actors.fair_share import FairShares
from actors.worker_threads import WorkerThreads
from db import job_journal, job_runs, postgres
from db.core import request_context
from db.core.errors import DomainError

# The key under which there is one job for all times at which it is scheduled.
SCHEDULED_KEY = "scheduled"
# How many promises of one kind a wake-up drains at a time.
BATCH_SIZE = 200
# How long a worker without a database rests before it takes the next message, in seconds.
_DATABASE_AWAY_PAUSE_S = 3.0

P = ParamSpec("P")
log = structlog.get_logger(__name__)


class BatchEntry(BaseModel):
    """What a @records verb is given many of. The id is its own: whoever writes it twice, writes it once."""

    id: UUID


E = TypeVar("E", bound=BatchEntry)
E_contra = TypeVar("E_contra", bound=BatchEntry, contravariant=True)


class BatchFunction(Protocol[E_contra]):
    """A function that a @records verb is made of."""

    def __call__(self, entries: Sequence[E_contra], /) -> None: ...


class _EnqueuedJobs(list[job_journal.Job]):
    """The jobs that the open transaction enqueues, in their order."""

    written = 0

    def write(self) -> None:
        """Writes those that are not in the journal yet."""
        if rest := self[self.written :]:
            job_journal.insert(rest)
            self.written = len(self)


_open_jobs: ContextVar[_EnqueuedJobs | None] = ContextVar("promised", default=None)


@contextmanager
def transaction() -> Iterator[None]:
    """One transaction; what is promised in it is committed with it, and only then sent. Does not nest."""
    if _open_jobs.get() is not None:
        raise RuntimeError("a transaction is open already: a verb has one")
    promised = _EnqueuedJobs()
    try:
        _open_jobs.set(promised)
        with postgres.database.atomic():
            yield
            promised.write()
    finally:
        _open_jobs.set(None)
    broker.try_push(wakeups(promised), batch_job_names())


def enqueue(task: job_journal.Job) -> None:
    """Promises work in the open transaction: `promise(begin.job(payment.id))`.

    Raises RuntimeError outside a `transaction()`: the work must come true with its reason, or not at all.
    """
    promised = _open_jobs.get()
    if promised is None:
        raise RuntimeError(f"{task.name} was promised outside a transaction")
    promised.append(task)


def _enqueue_first(task: job_journal.Job) -> None:
    """Enqueues a job and writes it at once, before what else the open transaction changes."""
    enqueue(task)
    promised = _open_jobs.get()
    assert promised is not None
    promised.write()


def wakeups(tasks: Sequence[job_journal.Job]) -> list[job_journal.Job]:
    """Which of these need a message now: one is enough for all of a @records verb, and what is due later is
    sent by the relay."""
    tasks = [task for task in tasks if not task.after]
    known = batch_job_names()
    first = {task.name: task for task in reversed(tasks) if task.name in known}
    return [task for task in tasks if task.name not in known or first[task.name] is task]


def queues() -> set[str]:
    """The queues that there are jobs for."""
    return {verb.queue for verb in registry.values()}


def batch_job_names() -> frozenset[str]:
    """The verbs of which one message does for all their promises."""
    return frozenset(name for name, verb in registry.items() if isinstance(verb, BatchJob))


class JobKind(ABC):
    """Work with a name and a queue. Calling it answers a message; `perform` does the work in this thread."""

    def __init__(self, name: str, queue: str) -> None:
        self.name = name
        self.queue = queue
        if self.name in registry:
            raise RuntimeError(f"two verbs are called {self.name}")
        registry[self.name] = self

    @abstractmethod
    def perform(self, id: UUID) -> None:
        """Does what was promised under this id; nothing when it is done already or in another's hands."""

    def __call__(self, id: str) -> None:
        """Answers a message: performs, and notes a fault in the journal; the relay will send again."""
        try:
            self.perform(UUID(id))
        except BaseException as error:
            self._note(UUID(id), error)
            if not isinstance(error, Exception):
                raise

    def _note(self, id: UUID, error: BaseException, *, attempts: int | None = None) -> None:
        """Writes down what went wrong, where it can be written."""
        if postgres.is_unavailable(error):
            log.warning("the database is away, the relay will send again", name=self.name, error=str(error))
            # Nor does it help to take the next message at once: others may have a database.
            time.sleep(_DATABASE_AWAY_PAUSE_S)
            return
        log.error("a verb failed, the relay will send again", name=self.name, task=str(id), exc_info=error)
        reason = str(error).strip().partition("\n")[0]
        try:
            with postgres.connection():
                job_journal.record_failure(id, f"{type(error).__name__}: {reason}", attempts=attempts)
        except postgres.TRANSIENT_ERRORS as away:
            log.warning("a fault could not be noted", name=self.name, task=str(id), error=str(away))

    def _task(self, id: UUID, args: object) -> job_journal.Job:
        return job_journal.Job(
            id, self.name, self.queue, to_jsonable_python(args), request_context.current().request_id
        )


registry: dict[str, JobKind] = {}


def serve(queues: Collection[str], by: WorkerThreads, on: broker.Broker, *, share: int | None = None) -> None:
    """Lets the threads of this crew answer the messages of these queues `on` this broker; `share` of them at
    most those of one customer, where a verb knows whose its jobs are."""
    for verb in registry.values():
        if verb.queue in queues:
            if isinstance(verb, ExternalJob):
                verb.shares.limit = share
            broker.register(verb.name, verb.queue, by.doing(verb.__call__), on)


class _SingleJob(JobKind, Generic[P]):
    """A verb whose promise is one call of its function."""

    def __init__(self, do: Callable[P, job_journal.Job | None], name: str, queue: str) -> None:
        super().__init__(name, queue)
        self._signature = inspect.signature(do)
        self._do = validate_call(do)

    def scheduled(self) -> job_journal.Job:
        """The one standing job of this name, which the scheduler enqueues again and again: as long as it has
        not run, there is no second one."""
        return self._task(uuid4(), {}).unique(SCHEDULED_KEY)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> job_journal.Job:
        """The promise to call the function with these arguments, to be handed to `promise`."""
        return self._task(uuid4(), self._signature.bind(*args, **kwargs).arguments)

    def _call(self, task: job_journal.Job) -> job_journal.Job | None:
        with request_context.for_request(task.request_id):
            return self._do(**task.args)  # type: ignore[call-arg]


class TransactionalJob(_SingleJob[P]):
    """Changes our data: one transaction takes the promise, asks the law, writes, promises what follows.

    Exactly once: the promise is removed by the transaction that keeps it, so a second delivery finds none.
    What the law refuses is an outcome, not a fault: nothing is written, and the promise is done with.
    """

    def perform(self, id: UUID) -> None:
        with postgres.connection():
            try:
                with transaction():
                    task = job_journal.claim(id)
                    if task is not None:
                        self._call(task)
                        if task.id == job_journal.id_for_key(self.name, SCHEDULED_KEY):
                            job_runs.record_finished(self.name)
            except DomainError as refused:
                with transaction():
                    job_journal.claim(id)
                log.info("refused", name=self.name, task=str(id), reason=refused.message)


class BatchJob(JobKind, Generic[E]):
    """Changes our data, many promises at a time: one wake-up drains whatever is there, in order.

    One at a time in the whole installation, by a lock: whoever numbers or chains must be the only one.
    """

    def __init__(self, do: BatchFunction[E], name: str, entry: type[E], queue: str) -> None:
        super().__init__(name, queue)
        self._do = do
        self._entry = entry

    def job(self, entry: E) -> job_journal.Job:
        """The promise to write this entry."""
        return replace(self._task(entry.id, entry), shared=True)

    def perform(self, id: UUID) -> None:
        asked: UUID | None = id
        broker.woken(self.name)
        with postgres.connection():
            # Whoever has the lock may have looked for the last time before this promise was committed; so
            # it looks once more after letting go, and nobody has to wait for it.
            while self._drain(asked) and job_journal.waiting_ids(self.name, 1):
                asked = None
                worker_threads.made_progress()

    def _drain(self, asked: UUID | None) -> bool:
        """Does the first of them, and the one asked for even if it failed before; False when another is at
        it."""
        try:
            with transaction():
                if not postgres.try_advisory_lock(self.name):
                    return False
                self._write(job_journal.claim_batch(self.name, BATCH_SIZE, asked))
        except postgres.TRANSIENT_ERRORS:
            raise
        except Exception:
            # One of them is bad: the good ones must not wait for it.
            for id in job_journal.waiting_ids(self.name, BATCH_SIZE, asked):
                self._drain_one(id)
        return True

    def _drain_one(self, id: UUID) -> None:
        try:
            with transaction():
                if postgres.try_advisory_lock(self.name):
                    task = job_journal.claim(id)
                    self._write([task] if task else [])
        except postgres.TRANSIENT_ERRORS:
            raise
        except Exception as error:
            self._note(id, error)

    def _write(self, tasks: Sequence[job_journal.Job]) -> None:
        if tasks:
            self._do([self._entry.model_validate(task.args) for task in tasks])

    def _note(self, id: UUID, error: BaseException, *, attempts: int | None = None) -> None:
        if isinstance(error, postgres.TRANSIENT_ERRORS):
            # None of the entries is to blame: to put one off would be to change the order.
            log.warning("entries wait, the relay will send again", name=self.name, error=str(error))
        else:
            super()._note(id, error, attempts=attempts)


class ExternalJob(_SingleJob[P]):
    """Touches the world, with no transaction open; returns the verb to which it tells what it learned.

    At least once: a worker may die between the effect and our writing it down, so the other side must
    recognise a repetition by a key. A lease keeps others off meanwhile, and is renewed while the thread
    lives; it decides who may call, not who is believed. What was learned is written down and the job is
    done, also where the lease was lost and another has it in hand by now.
    """

    def __init__(
        self, do: Callable[P, job_journal.Job | None], name: str, queue: str, share: str | None
    ) -> None:
        super().__init__(do, name, queue)
        self._share = share
        self.shares = FairShares()

    def perform(self, id: UUID) -> None:
        with job_leases.held(id) as task:
            if task is None:
                return
            key = None if self._share is None else str(task.args.get(self._share))
            if key is None:
                self._finish(task)
            elif self.shares.enter(key):
                try:
                    self._finish(task)
                except Exception as error:
                    # What waits for this thread must not wait for ever.
                    self._note(id, error)
                finally:
                    self.shares.leave(key)
            else:
                self._set_aside(key, task)
        while key is not None and (waited := self.shares.next(key)):
            self._do_waited(key, waited)

    def _set_aside(self, key: str, task: job_journal.Job) -> None:
        room = self.shares.has_room()
        # First there: as soon as it waits here, another thread may take it in hand.
        with postgres.connection():
            job_journal.set_aside(
                task, job_journal.SET_ASIDE_S if room else fair_share.PUT_OFF_S, count_back=not room
            )
        if room:
            self.shares.set_aside(key, task.id)

    def _do_waited(self, key: str, id: UUID) -> None:
        """Does what waited for a thread of the share; what goes wrong is this job's fault, and no other's."""
        try:
            with job_leases.held(id) as task:
                if task is not None:
                    self._finish(task)
        except Exception as error:
            self._note(id, error)
        finally:
            self.shares.leave(key)
        worker_threads.made_progress()

    def _finish(self, task: job_journal.Job) -> None:
        try:
            learned = self._call(task)
        except Exception as error:
            self._note(task.id, error, attempts=task.attempts)
            return
        with postgres.connection(), transaction():
            # What follows may be enqueued under a known id, and be just at work, where it enqueues this job
            # again: it removes its row and then waits for this one's. So this one waits before it removes its
            # own. A job that follows itself has to be gone first.
            if learned is not None and learned.id != task.id:
                _enqueue_first(learned)
            if not job_journal.remove(task):
                log.warning("another had the same job in hand", name=self.name, task=str(task.id))
            if learned is not None and learned.id == task.id:
                enqueue(learned)


def transactional_job(name: str, *, queue: str) -> Callable[[Callable[P, None]], TransactionalJob[P]]:
    """Makes a verb that changes our data."""
    return lambda do: TransactionalJob(do, name, queue)


def batch_job(name: str, entry: type[E], *, queue: str) -> Callable[[BatchFunction[E]], BatchJob[E]]:
    """Makes a verb that writes many entries of one kind, in order."""
    return lambda do: BatchJob(do, name, entry, queue)


def external_job(
    name: str, *, queue: str, share: str | None = None
) -> Callable[[Callable[P, job_journal.Job | None]], ExternalJob[P]]:
    """Makes a verb that touches the world; jobs with the same value of the argument `share` have a share of
    the threads."""
    return lambda do: ExternalJob(do, name, queue, share)
