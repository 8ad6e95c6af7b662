"""Spans: what a process does for a trace, exported if OTEL_EXPORTER_OTLP_ENDPOINT is set.

A trace is a value that jobs, events and calls carry (db/core/trace.py). While the work of a span is done, the
trace names this span as the parent of what the work causes. Without an endpoint there are no spans, no
package of OpenTelemetry is imported, and traces are passed on unchanged.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from db.core import request_context, trace
from db.core.errors import DomainError
from db.job_journal import Job

if TYPE_CHECKING:
    from actors.span_export import OtlpExporter

# How long a process that ends waits for its last spans to be accepted.
_STOP_S = 3.0

Attributes = Mapping[str, str | int]
# The kinds of span, as OpenTelemetry names them.
Kind = Literal["SERVER", "CLIENT", "PRODUCER", "CONSUMER"]


class Span:
    """A span that has begun. This class records nothing; `OtlpSpan` does."""

    def __init__(self, parent: str | None) -> None:
        # The trace to pass on; in a recorded span, with the span as its parent.
        self.trace = parent

    def end(self, failure: BaseException | str | None = None) -> None:
        """Ends the span; `failure` is why its work failed."""

    def describe(self, name: str, attributes: Attributes) -> None:
        """Names the span, and adds attributes that were not known when it began."""


_UNRECORDED = Span(None)
_exporter: "OtlpExporter | None" = None


def start(endpoint: str, service: str) -> None:
    """Exports the spans of this process from now on, if there is an endpoint. Not before a fork."""
    if endpoint:
        # The packages are an extra, and take memory and time to load.
        from actors import span_export  # noqa: PLC0415

        use(span_export.OtlpExporter.to(endpoint, service))


def use(exporter: "OtlpExporter | None") -> None:
    """Exports spans through this exporter from now on; None ends the export."""
    global _exporter
    _exporter = exporter


def stop() -> None:
    """Sends the last spans of this process, as far as they are accepted within a few seconds."""
    if _exporter is not None:
        last = Thread(target=_exporter.shut_down, daemon=True)
        last.start()
        last.join(_STOP_S)


def begin(name: str, kind: Kind, parent: str | None, attributes: Attributes) -> Span:
    """Begins a span of this trace; returns one that records nothing if the trace is not sampled."""
    if _exporter is None or not (parent and trace.is_sampled(parent)):
        return Span(parent)
    return _exporter.begin(name, kind, parent, attributes)


def begin_request(name: str, parent: str | None, attributes: Attributes) -> Span:
    """Begins the span of an HTTP request: of the client's trace, or the first one of a new trace."""
    return _exporter.begin(name, "SERVER", parent, attributes) if _exporter else Span(None)


def begin_jobs(jobs: Sequence[Job]) -> list[tuple[Job, Span]]:
    """Begins a span for each job; returns each job, with the trace that it passes on, and its span."""
    if _exporter is None:
        return [(job, _UNRECORDED) for job in jobs]
    begun = []
    for job in jobs:
        attributes = message_attributes("paywright", "process", job.name, job.id)
        more: Attributes = {"paywright.queue": job.queue, "paywright.attempts": job.attempts}
        span = begin(f"process {job.name}", "CONSUMER", job.trace, {**attributes, **more})
        begun.append((replace(job, trace=span.trace), span))
    return begun


def message_attributes(system: str, operation: str, destination: str, id: UUID) -> dict[str, str | int]:
    """Returns the attributes of a span that sends or processes a message, as OpenTelemetry names them."""
    return {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
        "messaging.message.id": str(id),
    }


@contextmanager
def spans_of(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Records a span for each job while the block runs; yields the jobs that `begin_jobs` returns."""
    begun = begin_jobs(jobs)
    with _ending([span for _job, span in begun]):
        yield [job for job, _span in begun]


def spans(
    name: str, kind: Kind, parents: Iterable[tuple[str | None, Attributes]]
) -> AbstractContextManager[None]:
    """Records a span in each of these traces while the block runs."""
    if _exporter is None:
        return nullcontext()
    return _ending([begin(name, kind, parent, attributes) for parent, attributes in parents])


@contextmanager
def span(name: str, kind: Kind, attributes: Attributes) -> Iterator[None]:
    """Records a span of the current trace while the block runs; it is the parent of what the block causes."""
    if _exporter is None:
        yield
        return
    context = request_context.current()
    begun = begin(name, kind, context.trace, attributes)
    with _ending([begun]), request_context.acting_as(replace(context, trace=begun.trace)):
        yield


@contextmanager
def _ending(begun: Sequence[Span]) -> Iterator[None]:
    """Ends spans after the block; an error of the block, unless it is a refusal, is their failure."""
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        # A refusal is an outcome.
        failure = None if isinstance(error, DomainError) else error
        raise
    finally:
        for each in begun:
            each.end(failure)
