"""A worker: answers the messages of some queues. `python -m workers.main payments`

One process, many threads, no master and no forks: a process type is scaled by starting more of them, and
one that is killed takes no other with it.
"""

import os
import sys
import threading
from collections.abc import Mapping

import structlog
from dramatiq import Worker

from actors import all_jobs, broker, fair_share, job_leases, jobs, media
from actors.settings import MediaSettings
from actors.worker_threads import WorkerThreads
from db import heartbeats, postgres, redis
from db.core.settings import read_or_exit
from workers import process

log = structlog.get_logger(__name__)

# How long what is in hand may take when the process is told to end, in ms; below a platform's kill grace.
_SHUTDOWN = 12_000
# After how many seconds in which all threads of a crew hang the process beats no more, and when it ends
# itself: longer than any call to the outside may take.
_SILENT_AFTER_S, _ENDS_AFTER_S = 50, 75
_LOOK_S = 1


def run(kind: str, queues: set[str]) -> None:
    """Serves the queues until told to end."""
    settings = process.start()
    serve(kind, {frozenset(queues): settings.worker_threads}, settings)


def serve(
    kind: str,
    crews: Mapping[frozenset[str], int],
    settings: process.WorkerSettings,
    *,
    share: int | None = None,
) -> None:
    """Serves each of these sets of queues with so many threads of its own, until the process is to end;
    `share` of them at most for one customer, where a verb knows whose its jobs are."""
    assert all_jobs
    told = process.until_stopped()
    queues = frozenset().union(*crews)
    if "housekeeping" in queues:
        media.configure(read_or_exit(MediaSettings))
    client = redis.connect(settings.redis_url)
    # Until the last job is done, and so longer than `told`.
    ended = threading.Event()
    threading.Thread(target=job_leases.keep_renewing, args=(ended,), daemon=True).start()
    watched: list[WorkerThreads] = []
    workers: list[Worker] = []
    for served, threads in crews.items():
        on = broker.new_broker(settings.redis_url, timeout=process.REDIS_TIMEOUT_S)
        watched.append(WorkerThreads(threads))
        jobs.serve(served, watched[-1], on, share=share)
        poll = settings.worker_poll_ms
        workers.append(Worker(on, queues=set(served), worker_threads=threads, worker_timeout=poll))
    for worker in workers:
        worker.start()
        for thread in worker.workers:
            # Only who asks Redis has to ask again and again: these are woken by what was fetched.
            thread.timeout = _LOOK_S
    log.info("working", kind=kind, queues=sorted(queues), threads=sum(crews.values()))
    looks = 0
    while not told.is_set():
        still = max(crew.look() for crew in watched) * _LOOK_S
        if still >= _ENDS_AFTER_S:
            log.critical("all threads hang, ending", kind=kind, seconds=still)
            os._exit(1)
        if still < _SILENT_AFTER_S and looks % heartbeats.INTERVAL_S == 0:
            heartbeats.beat(client, queues)
        looks += 1
        told.wait(_LOOK_S)
    log.info("stopping", kind=kind)
    try:
        with postgres.connection():
            fair_share.close()
    except postgres.TRANSIENT_ERRORS as error:
        log.warning("what was set aside waits for the relay", error=str(error).strip())
    stop(workers)
    ended.set()
    heartbeats.leave(client, queues)


def stop(workers: list[Worker]) -> None:
    """Lets all of them finish what is in hand, at the same time."""
    stopping = [threading.Thread(target=worker.stop, args=(_SHUTDOWN,)) for worker in workers]
    for thread in stopping:
        thread.start()
    for thread in stopping:
        thread.join()


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("which queues? as in: python -m workers.main payments")
    run(sys.argv[1], set(sys.argv[1:]))
