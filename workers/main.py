"""The worker process: performs the jobs of some queues.

`python -m workers.main payments` performs those of the queue `payments`.

One process with many threads, no master and no forks. A process type is scaled by starting more of them, and
a worker that is killed takes no other with it.
"""

import os
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import structlog

from actors import broker, job_leases, jobs, mail_sender, media, queue_state, records, tracing
from actors.broker import WaitingWorker
from actors.external_calls import CallingKind
from actors.settings import MailSettings, MediaSettings
from actors.worker_threads import BusyThreads, CallThreads
from db import heartbeats, postgres, redelivery, redis
from workers import process

log = structlog.get_logger(__name__)

# A pause of a queue is in force within two seconds.
_READ_PAUSES_EVERY_S = 1.5
# How often records are appended while Redis is away: event streams go on within two seconds.
_APPEND_EVERY_S = 1.0
# How long running jobs may take to finish when the process is stopped; less than a platform's kill grace.
_SHUTDOWN_S = 12
# After how long with all threads hanging the process stops its heartbeat, and after how long it exits: longer
# than the deadline of any call to the outside.
_SILENT_AFTER_S = 50
_EXIT_AFTER_S = 75
# How long a consumer that has fetched enough messages pauses at most. One without messages waits in Redis.
_FETCH_PAUSE_MS = 50


@dataclass
class QueueWorker:
    """A running Dramatiq worker for some queues: its threads, and its threads that call the outside."""

    dramatiq: WaitingWorker
    threads: BusyThreads
    calls: list[CallThreads]


def run(queues: Sequence[str]) -> None:
    """Performs the jobs of these queues until the process is stopped."""
    settings = process.start(queues[0])
    if "housekeeping" in queues:
        media.configure(MediaSettings.read_or_exit())
    if "mail" in queues:
        mail_sender.configure(MailSettings.read_or_exit())
    serve({frozenset(queues): settings.worker_threads}, settings)


def serve(
    threads_of: Mapping[frozenset[str], int], settings: process.WorkerSettings, *, share: int | None = None
) -> None:
    """Performs the jobs of each set of queues in threads of its own, until the process is stopped.

    `threads_of` has the number of threads that handle the messages of a set. Each kind of external job in the
    set has as many more for its calls. `share` limits how many of those one customer's jobs may occupy, for
    kinds that declare a `share`.
    """
    stopped = process.until_stopped()
    queues = frozenset().union(*threads_of)
    client = redis.connect(settings.redis_url)
    # Set after the last job has finished, and so after `stopped`.
    finished = threading.Event()
    threading.Thread(target=job_leases.keep_renewing, args=(finished,), daemon=True).start()
    refresh_pauses()
    threading.Thread(target=keep_refreshing_pauses, args=(finished,), daemon=True).start()
    if records.append.queue in queues:
        threading.Thread(target=keep_appending, args=(client, finished), daemon=True).start()
    workers = [start_worker(names, threads, settings, share=share) for names, threads in threads_of.items()]
    log.info("started", kind="worker", queues=sorted(queues), threads=sum(threads_of.values()))
    while not stopped.is_set():
        _report(workers, queues, client)
        stopped.wait(heartbeats.INTERVAL_S)
    log.info("stopping", kind="worker", queues=sorted(queues))
    if not _finish(workers):
        log.warning("calls under way are left to other workers", kind="worker", queues=sorted(queues))
    finished.set()
    queue_state.flush_finished(client)
    heartbeats.leave(client, queues)
    tracing.stop()


def _report(workers: Collection[QueueWorker], queues: Collection[str], client: redis.Client) -> None:
    """Writes a heartbeat, unless all threads hang; exits if they do so for too long."""
    pools = [worker.threads for worker in workers]
    pools += [threads.busy for worker in workers for threads in worker.calls]
    stalled_s = max(pool.check() for pool in pools) * heartbeats.INTERVAL_S
    if stalled_s >= _EXIT_AFTER_S:
        log.critical("all threads hang, exiting", kind="worker", queues=sorted(queues), seconds=stalled_s)
        os._exit(1)
    if stalled_s < _SILENT_AFTER_S:
        heartbeats.beat(client, queues)
        queue_state.flush_finished(client)


def _finish(workers: Collection[QueueWorker]) -> bool:
    """Takes no more jobs and finishes those that run; returns False if a call is still under way."""
    deadline = time.monotonic() + _SHUTDOWN_S
    calls = [threads for worker in workers for threads in worker.calls]
    for threads in calls:
        threads.close()
    # The workers stop at the same time; each finishes its running jobs first.
    with ThreadPoolExecutor() as stopping:
        list(stopping.map(lambda worker: worker.dramatiq.stop(_SHUTDOWN_S * 1000), workers))
    ended = [threads.join(deadline - time.monotonic()) for threads in calls]
    return all(ended)


def refresh_pauses() -> None:
    """Reads which queues are paused; sends the messages that were set aside for those that are resumed."""
    try:
        with postgres.connection():
            if resumed := queue_state.refresh_paused():
                # Before the messages are sent: the relay would take them for lost.
                redelivery.record_sent(resumed)
                broker.try_push(resumed)
    except postgres.TRANSIENT_ERRORS:
        # No job can begin either. The relay sends the messages that are not sent now.
        log.debug("database unavailable, paused queues not read")


def keep_refreshing_pauses(finished: threading.Event) -> None:
    """Calls `refresh_pauses` again and again until the event is set."""
    while not finished.wait(_READ_PAUSES_EVERY_S):
        try:
            refresh_pauses()
        except Exception:
            # The thread goes on: without it, no pause would take effect any more.
            log.exception("paused queues not read")


def keep_appending(client: redis.Client, finished: threading.Event) -> None:
    """Appends records to the logs, every second while Redis is away, until the event is set.

    Without Redis no message can announce records, but event streams still read the log.
    """
    while not finished.wait(_APPEND_EVERY_S):
        try:
            redis.check_writable(client)
        except redis.Unreachable:
            # The id of no job: `append` does all the jobs that wait.
            records.append(str(UUID(int=0)))


def start_worker(
    queues: Collection[str], threads: int, settings: process.WorkerSettings, *, share: int | None
) -> QueueWorker:
    """Starts to perform the jobs of these queues."""
    served_broker = broker.new_broker(settings.redis_url, timeout=process.REDIS_TIMEOUT_S)
    handling, calls = BusyThreads(threads), []
    for kind in jobs.load_all().values():
        if kind.queue in queues:
            if isinstance(kind, CallingKind):
                calls.append(CallThreads(threads))
                kind.serve(calls[-1], share)
            broker.register(kind.name, kind.queue, handling.counted(kind.__call__), served_broker)
    worker = WaitingWorker(served_broker, queues, threads, fetch_pause_ms=_FETCH_PAUSE_MS)
    worker.start()
    return QueueWorker(worker, handling, calls)


if __name__ == "__main__":
    # A queue that no job has would be served in silence, and the jobs of the one that was meant would wait.
    if not sys.argv[1:] or not {*sys.argv[1:]} <= {*jobs.QueueName}:
        sys.exit(f"usage: python -m workers.main QUEUE [QUEUE ...], of {', '.join(jobs.QueueName)}")
    run(sys.argv[1:])
