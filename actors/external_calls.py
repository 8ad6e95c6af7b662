"""How external jobs run: jobs are leased together, each is called in a thread, results are recorded together.

One transaction records the results of all calls that have ended, removes their jobs and inserts the jobs that
follow; another transaction leases the next jobs. While one thread writes, the others leave their results to
it. So a single result is recorded at once, and many results share one transaction.

A lease keeps other workers from calling. It does not decide whose result counts: a result is recorded and the
job removed even if the lease was lost to another worker meanwhile.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, cast
from uuid import UUID

import structlog

from actors import broker, job_leases, queue_state, tracing
from actors.job_leases import HeldLease
from actors.jobs import JobKind, failure_text, take_enqueued, transaction
from actors.tracing import Span
from actors.worker_threads import CallThreads, Turn
from db import job_journal, leased_jobs, postgres
from db.core import request_context
from db.core.errors import DomainError
from db.job_journal import Job

# How many jobs are leased together without `serve`, as in tests: the thread that leases them makes all calls.
_WITHOUT_THREADS = 50
# How long a thread pauses when the database is unavailable. Results wait in memory meanwhile.
_PAUSE_S = 1.0

Prepared = TypeVar("Prepared")
Result = TypeVar("Result")
log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Call(Generic[Prepared, Result]):
    """A call to the outside for a leased job, and how it ended."""

    lease: HeldLease
    prepared: Prepared
    span: Span
    result: Result | None = None
    error: BaseException | None = None


class CallingKind(JobKind, Generic[Prepared, Result]):
    """A kind of job that calls the outside, with an idempotency key and a deadline.

    A job is called at least once: its worker can die before it records the result.
    """

    # Returns the arguments of the calls, in the transaction that leases the jobs; None for no call.
    prepare: Callable[[Sequence[Job]], Sequence[Prepared | None]]
    # Calls the outside, without a transaction.
    call: Callable[[Prepared], Result]
    # Records results in the transaction that removes their jobs. The same result may come twice.
    record: Callable[[Sequence[tuple[Prepared, Result]]], None]
    # The field of the jobs' arguments by which jobs share the threads; None if it does not matter.
    share: str | None = None

    def __init__(self, name: str, queue: str) -> None:
        super().__init__(name, queue)
        self._threads: CallThreads | None = None
        self._threads_of_share: int | None = None
        self._woken = False
        self._finished: deque[Call[Prepared, Result]] = deque()
        # Only the thread that has the turn uses the attributes below.
        self._turn = Turn()
        self._under_way: set[Call[Prepared, Result]] = set()
        self._last_share = ""

    def serve(self, threads: CallThreads, threads_of_share: int | None = None) -> None:
        """Makes all calls in these threads from now on; those of one share in `threads_of_share` at most."""
        self._threads, self._threads_of_share = threads, threads_of_share

    def perform(self, id: UUID) -> None:
        for call in self._begin_alone(id):
            self._make(call)
            self._write([call])

    def handle(self, id: UUID) -> None:  # noqa: ARG002 -- a message serves all jobs of the name
        """Begins jobs of the name, as many as threads are free. Each call that ends begins further jobs."""
        self._woken = True
        self._turn.run(self._advance)

    def _advance(self) -> None:
        """Records the calls that have ended, then leases and begins the next ones."""
        if self._woken:
            # Cleared before the journal is read: a job that is committed later sends a message of its own.
            self._woken = False
            broker.clear_wakeup(self.name)
        ended = [self._finished.popleft() for _ in range(len(self._finished))]
        self._under_way.difference_update(ended)
        places = len(ended) + (self._threads.take() if self._threads else _WITHOUT_THREADS)
        calls: list[Call[Prepared, Result]] = []
        unrecorded: list[Call[Prepared, Result]] = []
        try:
            unrecorded = self._record_all(ended)
            calls = self._begin_all(places - len(unrecorded))
        finally:
            # Also after an error: a result that is not recorded yet keeps its place, and is recorded later.
            self._finished.extend(unrecorded)
            if self._threads:
                self._threads.give_back(places - len(calls) - len(unrecorded))
        if unrecorded:
            self._turn.request()
        for call in calls:
            self._under_way.add(call)
            if self._threads:
                self._threads.start(partial(self._run, call))
            else:
                self._run(call)

    def _run(self, call: Call[Prepared, Result]) -> None:
        """Makes a call, then records it and begins further jobs. Runs in a thread of its own."""
        self._make(call)
        self._finished.append(call)
        try:
            self._turn.run(self._advance)
        except Exception:
            log.exception("calls not recorded", job=self.name)

    def _make(self, call: Call[Prepared, Result]) -> None:
        """Makes a call and keeps its result or error. Raises nothing."""
        with request_context.for_request(call.lease.job):
            try:
                call.result = self.call(call.prepared)
            except BaseException as error:
                call.error = error
        call.span.end(call.error)

    def _record_all(self, ended: Sequence[Call[Prepared, Result]]) -> list[Call[Prepared, Result]]:
        """Records calls in one transaction; returns those that are to be recorded later."""
        if not ended:
            return []
        try:
            self._write(ended)
        except postgres.DatabaseUnavailable as error:
            self._pause("results wait", error)
            return list(ended)
        except Exception as error:
            # One of the calls is at fault. Each is recorded alone, so that the others do not wait for it.
            # That may succeed for all of them (actors/psp/calls.py), so the error is logged here.
            log.warning("results recorded one by one", job=self.name, error=failure_text(error))
            return self._record_each(ended)
        return []

    def _begin_all(self, places: int) -> list[Call[Prepared, Result]]:
        """Leases jobs for this number of places in one transaction; returns their calls.

        Not in the transaction that records results: `prepare` locks rows, such as payments, and all
        transactions lock those before they insert jobs, as `record` does (decision 20).
        """
        if places <= 0 or (self._threads is not None and not self._threads.is_open):
            return []
        if queue_state.set_aside(self.queue, self.name):
            return []
        try:
            return self._begin(lambda: self._lease(places))
        except postgres.DatabaseUnavailable as error:
            self._pause("jobs wait", error)
            return []
        except Exception:
            return self._begin_each(places)

    def _begin(self, lease: Callable[[], Sequence[Job]]) -> list[Call[Prepared, Result]]:
        """Leases and prepares jobs in one transaction; returns their calls."""
        with postgres.connection(), transaction():
            jobs = lease()
            calls = self._prepare(jobs)
        job_leases.hold(call.lease for call in calls)
        if done := len(jobs) - len(calls):
            queue_state.count_finished(self.queue, done)
            # Jobs without a call leave their places to other jobs.
            self._turn.request()
        return calls

    def _write(self, ended: Sequence[Call[Prepared, Result]]) -> None:
        """Records calls in one transaction, and ends the renewal of their leases."""
        with postgres.connection(), transaction():
            self._record(ended)
        queue_state.count_finished(self.queue, sum(call.error is None for call in ended))
        job_leases.drop(call.lease for call in ended)

    def _record(self, ended: Sequence[Call[Prepared, Result]]) -> None:
        """Records calls in the open transaction: removes jobs that are done, postpones those that failed."""
        done = [call for call in ended if call.error is None]
        if done:
            self.record([(call.prepared, cast("Result", call.result)) for call in done])
        jobs = {call.lease.job.id: call.lease.job for call in done}
        # A job that follows may have a unique id and be running at this moment: its transaction removes its
        # own row, then may enqueue one of the jobs that are done here, and wait for that row. So the jobs
        # that follow are inserted before the rows are removed, and all locks have one order. Only a job that
        # enqueues itself is removed before.
        following = take_enqueued()
        if enqueue_themselves := [jobs.pop(job.id) for job in following if job.id in jobs]:
            leased_jobs.remove(enqueue_themselves)
        job_journal.insert(following)
        if jobs and len(removed := leased_jobs.remove(list(jobs.values()))) < len(jobs):
            twice = [str(id) for id in jobs.keys() - removed]
            log.warning("jobs were done by another worker too", job=self.name, job_ids=twice)
        for call in ended:
            if call.error is not None:
                job = call.lease.job
                log.error(
                    "job failed, will be retried", job=self.name, job_id=str(job.id), exc_info=call.error
                )
                job_journal.record_failure(job.id, failure_text(call.error), attempts=job.attempts)

    def _record_each(self, ended: Sequence[Call[Prepared, Result]]) -> list[Call[Prepared, Result]]:
        """Records each call alone; returns those that are to be recorded later."""
        unrecorded = []
        for call in ended:
            try:
                self._write([call])
            except postgres.TRANSIENT_ERRORS as error:
                log.warning("result not recorded yet", job=self.name, error=str(error).strip())
                unrecorded.append(call)
            except Exception as error:
                job_leases.drop([call.lease])
                self._record_failure(call.lease.job.id, error, attempts=call.lease.job.attempts)
        return unrecorded

    def _begin_each(self, places: int) -> list[Call[Prepared, Result]]:
        """Leases and prepares each job alone, so that only the faulty ones are postponed."""
        try:
            with postgres.connection():
                ids = leased_jobs.leasable_ids(self.name, places)
        except postgres.TRANSIENT_ERRORS as error:
            # No job is at fault. The error is not raised: it would end the turn, and results that wait in
            # memory would be recorded only after the next message.
            self._pause("jobs wait", error)
            return []
        return [call for id in ids for call in self._begin_alone(id)]

    def _begin_alone(self, id: UUID) -> list[Call[Prepared, Result]]:
        """Leases and prepares one job; no call if it has failed or was refused.

        Records an error instead of raising it, because the caller has still to make the calls of the jobs
        before this one.
        """
        try:
            with postgres.connection():
                try:
                    return self._begin(lambda: self._log_dead(leased_jobs.lease(id, job_leases.LEASE_S)))
                except DomainError as refusal:
                    self._remove_refused(id, refusal)
        except Exception as error:
            self._record_failure(id, error)
        return []

    def _pause(self, consequence: str, error: Exception) -> None:
        log.warning(f"database unavailable, {consequence}", job=self.name, error=str(error).strip())
        time.sleep(_PAUSE_S)

    def _prepare(self, jobs: Sequence[Job]) -> list[Call[Prepared, Result]]:
        """Returns the calls of jobs that were just leased; removes the jobs that need no call."""
        if not jobs:
            return []
        begun = tracing.begin_jobs(jobs)
        calls: list[Call[Prepared, Result]] = []
        nothing_to_call: list[Job] = []
        for (job, span), prepared in zip(begun, self.prepare([job for job, _span in begun]), strict=True):
            if prepared is None:
                nothing_to_call.append(job)
                span.end()
            else:
                calls.append(Call(HeldLease(job), prepared, span))
        if nothing_to_call:
            # The jobs that follow are inserted before these are removed, as in `_record`.
            job_journal.insert(take_enqueued())
            leased_jobs.remove(nothing_to_call)
        return calls

    def _lease(self, places: int) -> list[Job]:
        """Leases the first jobs, up to this number; if they have shares, the shares take turns."""
        if self.share is None:
            return self._log_dead(leased_jobs.lease_first(self.name, places, job_leases.LEASE_S))
        running = Counter(call.lease.job.share or "" for call in self._under_way)
        share = self._threads_of_share or places
        jobs: list[Job] = []
        # Round robin: from the share after the last one that was served to the end, then from the first one.
        for after in dict.fromkeys((self._last_share, "")):
            self._last_share = ""
            leased = leased_jobs.lease_shares(
                self.name, places - len(jobs), job_leases.LEASE_S, share=share, running=running, after=after
            )
            found = self._log_dead(leased)
            jobs += found
            running.update(job.share or "" for job in found)
            if len(jobs) == places:
                self._last_share = max(job.share or "" for job in found)
                break
        return jobs

    def _log_dead(self, leased: job_journal.Attempted) -> list[Job]:
        """Logs the jobs whose last attempt is over; returns the others."""
        for job in leased.dead:
            log.error("job dead", job=self.name, job_id=str(job.id), attempts=job.attempts)
        return leased.jobs
