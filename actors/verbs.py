"""How work is promised, and the three ways it is done: @record, @records, @effect.

A promise is a row of the journal, written in the transaction that makes the work due. A message on the wire
only says which row to look at: it may come late, twice or never, and the work is still done once.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, ParamSpec, Protocol, TypeVar
from uuid import UUID, uuid4

import structlog
from pydantic import BaseModel, validate_call
from pydantic_core import to_jsonable_python

from actors import broker, origin
from db import journal, postgres
from db.fault import Fault

# How long an effect may have its promise in hand, in seconds: longer than an actor's time limit.
LEASE = 15
# How many promises of one kind a wake-up drains at a time.
BATCH = 200

P = ParamSpec("P")
log = structlog.get_logger(__name__)


class Entry(BaseModel):
    """What a @records verb is given many of. The id is its own: whoever writes it twice, writes it once."""

    id: UUID


E = TypeVar("E", bound=Entry)
E_contra = TypeVar("E_contra", bound=Entry, contravariant=True)


class Many(Protocol[E_contra]):
    """A function that a @records verb is made of."""

    __module__: str
    __name__: str

    def __call__(self, entries: Sequence[E_contra], /) -> None: ...


_promised: ContextVar[list[journal.Task] | None] = ContextVar("promised", default=None)


@contextmanager
def transaction() -> Iterator[None]:
    """One transaction; what is promised in it is committed with it, and only then sent. Does not nest."""
    if _promised.get() is not None:
        raise RuntimeError("a transaction is open already: a verb has one")
    promised: list[journal.Task] = []
    token = _promised.set(promised)
    try:
        with postgres.database.atomic():
            yield
            if promised:
                journal.write(promised)
    finally:
        _promised.reset(token)
    broker.try_push(wakeups(promised))


def promise(task: journal.Task) -> None:
    """Promises work in the open transaction: `promise(begin.message(payment.id))`.

    Raises RuntimeError outside a `transaction()`: the work must come true with its reason, or not at all.
    """
    promised = _promised.get()
    if promised is None:
        raise RuntimeError(f"{task.verb} was promised outside a transaction")
    promised.append(task)


def wakeups(tasks: Sequence[journal.Task]) -> list[journal.Task]:
    """Which of these need a message of their own: one is enough for all of a @records verb."""
    seen: set[str] = set()
    needed = []
    for task in tasks:
        if not (isinstance(registry.get(task.verb), Records) and task.verb in seen):
            needed.append(task)
        seen.add(task.verb)
    return needed


class Verb(ABC):
    """Work with a name and a queue. Calling it answers a message; `perform` does the work in this thread."""

    def __init__(self, module: str, name: str, queue: str) -> None:
        self.name = f"{module.rpartition('.')[2]}.{name}"
        self.queue = queue
        if self.name in registry:
            raise RuntimeError(f"two verbs are called {self.name}")
        registry[self.name] = self

    @abstractmethod
    def perform(self, id: UUID) -> None:
        """Does what was promised under this id; nothing when it is done already or in another's hands."""

    def __call__(self, id: str) -> None:
        """Performs, and never raises: a fault is noted in the journal, and the relay sends again."""
        try:
            self.perform(UUID(id))
        except postgres.Unreachable as error:
            log.warning("the database is away, the relay will send again", verb=self.name, error=str(error))
        except Exception as error:
            log.exception("a verb failed, the relay will send again", verb=self.name, task=id)
            with postgres.connection():
                journal.fail(UUID(id), f"{type(error).__name__}: {error}")

    def _task(self, id: UUID, args: object) -> journal.Task:
        return journal.Task(id, self.name, self.queue, to_jsonable_python(args), origin.current().request_id)


registry: dict[str, Verb] = {}


def serve(queues: set[str]) -> None:
    """Lets this process answer the messages of these queues. The broker must be open."""
    for verb in registry.values():
        if verb.queue in queues:
            broker.actor(verb.name, verb.queue, verb.__call__)


class Record(Verb, Generic[P]):
    """Changes our data: one transaction takes the promise, asks the law, writes, promises what follows.

    Exactly once: the promise is removed by the transaction that keeps it, so a second delivery finds none.
    What the law refuses is an outcome, not a fault: nothing is written, and the promise is done with.
    """

    def __init__(self, do: Callable[P, None], queue: str) -> None:
        super().__init__(do.__module__, do.__name__, queue)
        self._signature = inspect.signature(do)
        self._do = validate_call(do)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> journal.Task:
        """The promise to call the function with these arguments, to be handed to `promise`."""
        return self._task(uuid4(), self._signature.bind(*args, **kwargs).arguments)

    def perform(self, id: UUID) -> None:
        with postgres.connection():
            try:
                with transaction():
                    task = journal.take(id)
                    if task is not None:
                        with origin.of(task.request_id):
                            self._do(**task.args)  # type: ignore[call-arg]
            except Fault as refused:
                with transaction():
                    journal.take(id)
                log.info("refused", verb=self.name, task=str(id), reason=refused.message)


class Records(Verb, Generic[E]):
    """Changes our data, many promises at a time: one wake-up drains whatever is there, in order.

    One at a time in the whole installation, by a lock: whoever numbers or chains must be the only one.
    """

    def __init__(self, do: Many[E], entry: type[E], queue: str) -> None:
        super().__init__(do.__module__, do.__name__, queue)
        self._do = do
        self._entry = entry

    def message(self, entry: E) -> journal.Task:
        """The promise to write this entry."""
        return self._task(entry.id, entry)

    def perform(self, id: UUID) -> None:
        with postgres.connection():
            try:
                while self._drain(BATCH, id):
                    pass
            except postgres.Unreachable:
                raise
            except Exception:
                # One of them is bad: the good ones must not wait for it.
                self._drain_singly(id)

    def _drain(self, limit: int, id: UUID) -> bool:
        """Does up to so many; whether there may be more. Of those that failed before, only this one."""
        with transaction():
            # Waits rather than tries: the holder may have looked for the last time before we committed.
            postgres.lock(self.name)
            tasks = journal.take_many(self.name, limit, id)
            if tasks:
                self._do([self._entry.model_validate(task.args) for task in tasks])
        return len(tasks) == limit

    def _drain_singly(self, id: UUID) -> None:
        for one in journal.waiting(self.name, BATCH, id):
            try:
                with transaction():
                    postgres.lock(self.name)
                    task = journal.take(one)
                    if task is not None:
                        self._do([self._entry.model_validate(task.args)])
            except Exception as error:
                log.exception("a verb failed, the relay will send again", verb=self.name, task=str(one))
                journal.fail(one, f"{type(error).__name__}: {error}")


class Effect(Verb, Generic[P]):
    """Touches the world, with no transaction open; returns the verb to which it tells what it learned.

    At least once: a worker may die between the effect and our writing it down, so the other side must
    recognise a repetition by a key. A lease keeps others off meanwhile; one that took longer than its lease
    is not believed, for the promise has been handed to another by then.
    """

    def __init__(self, do: Callable[P, journal.Task | None], queue: str) -> None:
        super().__init__(do.__module__, do.__name__, queue)
        self._signature = inspect.signature(do)
        self._do = validate_call(do)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> journal.Task:
        """The promise to call the function with these arguments, to be handed to `promise`."""
        return self._task(uuid4(), self._signature.bind(*args, **kwargs).arguments)

    def perform(self, id: UUID) -> None:
        with postgres.connection():
            task = journal.lease(id, LEASE)
        if task is None:
            return
        with origin.of(task.request_id):
            learned = self._do(**task.args)  # type: ignore[call-arg]
        with postgres.connection(), transaction():
            if journal.finish(task) and learned is not None:
                promise(learned)


def record(queue: str) -> Callable[[Callable[P, None]], Record[P]]:
    """Makes a verb that changes our data."""
    return lambda do: Record(do, queue)


def records(queue: str, entry: type[E]) -> Callable[[Many[E]], Records[E]]:
    """Makes a verb that writes many entries of one kind, in order."""
    return lambda do: Records(do, entry, queue)


def effect(queue: str) -> Callable[[Callable[P, journal.Task | None]], Effect[P]]:
    """Makes a verb that touches the world."""
    return lambda do: Effect(do, queue)
