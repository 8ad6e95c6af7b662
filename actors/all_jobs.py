"""The jobs of all modules: what a process needs that handles jobs it does not name itself."""

import pkgutil
from collections.abc import Callable, Collection
from enum import StrEnum
from functools import cache
from importlib import import_module

import actors
from actors.batch_jobs import BatchJob
from actors.external_calls import CallingKind
from actors.jobs import JobKind, registry


class QueueName(StrEnum):
    """The queues of all jobs."""

    PAYMENTS = "payments"
    PSP = "psp"
    PSP_INQUIRIES = "psp-inquiries"
    EVENTS = "events"
    HOUSEKEEPING = "housekeeping"
    MAIL = "mail"


@cache
def load() -> dict[str, JobKind]:
    """Imports every module of this package, which registers its jobs; returns all jobs by name."""
    for module in pkgutil.iter_modules(actors.__path__):
        import_module(f"actors.{module.name}")
    return registry


def queues() -> set[str]:
    """Returns the queues of all jobs."""
    return {kind.queue for kind in load().values()}


def batch_job_names(paused: Collection[str] = ()) -> frozenset[str]:
    """Returns the names of the batch jobs: one message wakes a worker for all jobs of such a name.

    Without those of paused queues.
    """
    return _names_of(paused, lambda kind: isinstance(kind, BatchJob))


def calling_names(paused: Collection[str] = ()) -> frozenset[str]:
    """Returns the names of the jobs that call the outside, and so are leased; not of paused queues."""
    return _names_of(paused, lambda kind: isinstance(kind, CallingKind))


def _names_of(paused: Collection[str], has: Callable[[JobKind], bool]) -> frozenset[str]:
    return frozenset(name for name, kind in load().items() if has(kind) and kind.queue not in paused)
