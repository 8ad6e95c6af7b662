"""The jobs of all modules: what a process needs that handles jobs it does not name itself."""

import pkgutil
from collections.abc import Collection
from enum import StrEnum
from functools import cache
from importlib import import_module

import actors
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
    """Imports the modules of this package, which registers their jobs; returns all jobs by name."""
    for module in pkgutil.iter_modules(actors.__path__):
        # It has no jobs, and imports the SDK of OpenTelemetry.
        if module.name != "span_export":
            import_module(f"actors.{module.name}")
    return registry


def queues() -> set[str]:
    """Returns the queues of all jobs."""
    return {kind.queue for kind in load().values()}


def names_of(kind: type, paused: Collection[str]) -> frozenset[str]:
    """Returns the names of the jobs of this kind, without those of paused queues."""
    jobs = load().items()
    return frozenset(name for name, job in jobs if isinstance(job, kind) and job.queue not in paused)
