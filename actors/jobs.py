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
from actors.fair_share import Shares
from actors.worker_threads import Crew
from db import job_journal, job_runs, postgres
from db.core import request_context
from db.core.errors import Fault

# The key under which there is one job for all times at which it is scheduled.
SCHEDULED = "scheduled"
# How many promises of one kind a wake-up drains at a time.
BATCH = 200
# How long a worker without a database rests before it takes the next message, in seconds.
_PAUSE = 3.0

P = ParamSpec("P")
log = structlog.get_logger(__name__)


class Entry(BaseModel):
    """What a @records verb is given many of. The id is its own: whoever writes it twice, writes it once."""

    id: UUID


E = TypeVar("E", bound=Entry)
E_contra = TypeVar("E_contra", bound=Entry, contravariant=True)


class Many(Protocol[E_contra]):
    """A function that a @records verb is made of."""

    def __call__(self, entries: Sequence[E_contra], /) -> None: ...


class _Enqueued(list[job_journal.Task]):
    """The jobs that the open transaction enqueues, in their order."""

    written = 0

    def write(self) -> None:
        """Writes those that are not in the journal yet."""
        if rest := self[self.written :]:
            job_journal.write(rest)
            self.written = len(self)


_promised: ContextVar[_Enqueued | None] = ContextVar("promised", default=None)


@contextmanager
def transaction() -> Iterator[None]:
    """One transaction; what is promised in it is committed with it, and only then sent. Does not nest."""
    if _promised.get() is not None:
        raise RuntimeError("a transaction is open already: a verb has one")
    promised = _Enqueued()
    try:
        _promised.set(promised)
        with postgres.database.atomic():
            yield
            promised.write()
    finally:
        _promised.set(None)
    broker.try_push(wakeups(promised), shared())


def promise(task: job_journal.Task) -> None:
    """Promises work in the open transaction: `promise(begin.message(payment.id))`.

    Raises RuntimeError outside a `transaction()`: the work must come true with its reason, or not at all.
    """
    promised = _promised.get()
    if promised is None:
        raise RuntimeError(f"{task.verb} was promised outside a transaction")
    promised.append(task)


def _enqueue_first(task: job_journal.Task) -> None:
    """Enqueues a job and writes it at once, before what else the open transaction changes."""
    promise(task)
    promised = _promised.get()
    assert promised is not None
    promised.write()


def wakeups(tasks: Sequence[job_journal.Task]) -> list[job_journal.Task]:
    """Which of these need a message now: one is enough for all of a @records verb, and what is due later is
    sent by the relay."""
    tasks = [task for task in tasks if not task.after]
    known = shared()
    first = {task.verb: task for task in reversed(tasks) if task.verb in known}
    return [task for task in tasks if task.verb not in known or first[task.verb] is task]


def queues() -> set[str]:
    """The queues that there are jobs for."""
    return {verb.queue for verb in registry.values()}


def shared() -> frozenset[str]:
    """The verbs of which one message does for all their promises."""
    return frozenset(name for name, verb in registry.items() if isinstance(verb, Records))


class Verb(ABC):
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
        if postgres.away(error):
            log.warning("the database is away, the relay will send again", verb=self.name, error=str(error))
            # Nor does it help to take the next message at once: others may have a database.
            time.sleep(_PAUSE)
            return
        log.error("a verb failed, the relay will send again", verb=self.name, task=str(id), exc_info=error)
        reason = str(error).strip().partition("\n")[0]
        try:
            with postgres.connection():
                job_journal.fail(id, f"{type(error).__name__}: {reason}", attempts=attempts)
        except postgres.Unreachable as away:
            log.warning("a fault could not be noted", verb=self.name, task=str(id), error=str(away))

    def _task(self, id: UUID, args: object) -> job_journal.Task:
        return job_journal.Task(
            id, self.name, self.queue, to_jsonable_python(args), request_context.current().request_id
        )


registry: dict[str, Verb] = {}


def serve(queues: Collection[str], by: Crew, on: broker.Broker, *, share: int | None = None) -> None:
    """Lets the threads of this crew answer the messages of these queues `on` this broker; `share` of them at
    most those of one customer, where a verb knows whose its jobs are."""
    for verb in registry.values():
        if verb.queue in queues:
            if isinstance(verb, Effect):
                verb.shares.limit = share
            broker.actor(verb.name, verb.queue, by.doing(verb.__call__), on)


class _Call(Verb, Generic[P]):
    """A verb whose promise is one call of its function."""

    def __init__(self, do: Callable[P, job_journal.Task | None], name: str, queue: str) -> None:
        super().__init__(name, queue)
        self._signature = inspect.signature(do)
        self._do = validate_call(do)

    def scheduled(self) -> job_journal.Task:
        """The one standing job of this name, which the scheduler enqueues again and again: as long as it has
        not run, there is no second one."""
        return self._task(uuid4(), {}).once(SCHEDULED)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> job_journal.Task:
        """The promise to call the function with these arguments, to be handed to `promise`."""
        return self._task(uuid4(), self._signature.bind(*args, **kwargs).arguments)

    def _call(self, task: job_journal.Task) -> job_journal.Task | None:
        with request_context.of(task.request_id):
            return self._do(**task.args)  # type: ignore[call-arg]


class Record(_Call[P]):
    """Changes our data: one transaction takes the promise, asks the law, writes, promises what follows.

    Exactly once: the promise is removed by the transaction that keeps it, so a second delivery finds none.
    What the law refuses is an outcome, not a fault: nothing is written, and the promise is done with.
    """

    def perform(self, id: UUID) -> None:
        with postgres.connection():
            try:
                with transaction():
                    task = job_journal.take(id)
                    if task is not None:
                        self._call(task)
                        if task.id == job_journal.known_id(self.name, SCHEDULED):
                            job_runs.record_finished(self.name)
            except Fault as refused:
                with transaction():
                    job_journal.take(id)
                log.info("refused", verb=self.name, task=str(id), reason=refused.message)


class Records(Verb, Generic[E]):
    """Changes our data, many promises at a time: one wake-up drains whatever is there, in order.

    One at a time in the whole installation, by a lock: whoever numbers or chains must be the only one.
    """

    def __init__(self, do: Many[E], name: str, entry: type[E], queue: str) -> None:
        super().__init__(name, queue)
        self._do = do
        self._entry = entry

    def message(self, entry: E) -> job_journal.Task:
        """The promise to write this entry."""
        return replace(self._task(entry.id, entry), shared=True)

    def perform(self, id: UUID) -> None:
        asked: UUID | None = id
        broker.woken(self.name)
        with postgres.connection():
            # Whoever has the lock may have looked for the last time before this promise was committed; so
            # it looks once more after letting go, and nobody has to wait for it.
            while self._drain(asked) and job_journal.waiting(self.name, 1):
                asked = None
                worker_threads.got_on()

    def _drain(self, asked: UUID | None) -> bool:
        """Does the first of them, and the one asked for even if it failed before; False when another is at
        it."""
        try:
            with transaction():
                if not postgres.lock(self.name):
                    return False
                self._write(job_journal.take_many(self.name, BATCH, asked))
        except postgres.Unreachable:
            raise
        except Exception:
            # One of them is bad: the good ones must not wait for it.
            for id in job_journal.waiting(self.name, BATCH, asked):
                self._drain_one(id)
        return True

    def _drain_one(self, id: UUID) -> None:
        try:
            with transaction():
                if postgres.lock(self.name):
                    task = job_journal.take(id)
                    self._write([task] if task else [])
        except postgres.Unreachable:
            raise
        except Exception as error:
            self._note(id, error)

    def _write(self, tasks: Sequence[job_journal.Task]) -> None:
        if tasks:
            self._do([self._entry.model_validate(task.args) for task in tasks])

    def _note(self, id: UUID, error: BaseException, *, attempts: int | None = None) -> None:
        if isinstance(error, postgres.Unreachable):
            # None of the entries is to blame: to put one off would be to change the order.
            log.warning("entries wait, the relay will send again", verb=self.name, error=str(error))
        else:
            super()._note(id, error, attempts=attempts)


class Effect(_Call[P]):
    """Touches the world, with no transaction open; returns the verb to which it tells what it learned.

    At least once: a worker may die between the effect and our writing it down, so the other side must
    recognise a repetition by a key. A lease keeps others off meanwhile, and is renewed while the thread
    lives; it decides who may call, not who is believed. What was learned is written down and the job is
    done, also where the lease was lost and another has it in hand by now.
    """

    def __init__(
        self, do: Callable[P, job_journal.Task | None], name: str, queue: str, share: str | None
    ) -> None:
        super().__init__(do, name, queue)
        self._share = share
        self.shares = Shares()

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

    def _set_aside(self, key: str, task: job_journal.Task) -> None:
        room = self.shares.has_room()
        # First there: as soon as it waits here, another thread may take it in hand.
        with postgres.connection():
            job_journal.set_aside(
                task, job_journal.ASIDE_S if room else fair_share.PUT_OFF_S, count_back=not room
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
        worker_threads.got_on()

    def _finish(self, task: job_journal.Task) -> None:
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
            if not job_journal.finish(task):
                log.warning("another had the same job in hand", verb=self.name, task=str(task.id))
            if learned is not None and learned.id == task.id:
                promise(learned)


def record(name: str, *, queue: str) -> Callable[[Callable[P, None]], Record[P]]:
    """Makes a verb that changes our data."""
    return lambda do: Record(do, name, queue)


def records(name: str, entry: type[E], *, queue: str) -> Callable[[Many[E]], Records[E]]:
    """Makes a verb that writes many entries of one kind, in order."""
    return lambda do: Records(do, name, entry, queue)


def effect(
    name: str, *, queue: str, share: str | None = None
) -> Callable[[Callable[P, job_journal.Task | None]], Effect[P]]:
    """Makes a verb that touches the world; jobs with the same value of the argument `share` have a share of
    the threads."""
    return lambda do: Effect(do, name, queue, share)
