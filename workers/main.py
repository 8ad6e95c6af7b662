"""A worker: answers the messages of some queues. `python -m workers.main payments`

One process, many threads, no master and no forks: a process type is scaled by starting more of them, and
one that is killed takes no other with it.
"""

import sys

import structlog
from dramatiq import Worker

from actors import broker, every, media, verbs
from actors.settings import MediaSettings
from db import presence, redis
from db.settings import or_exit
from workers import process

log = structlog.get_logger(__name__)

# How long what is in hand may take when the process is told to end, in ms; below a platform's kill grace.
_SHUTDOWN = 12_000


def run(kind: str, queues: set[str]) -> None:
    """Serves the queues until told to end."""
    assert every
    settings = process.boot()
    told = process.until_told()
    if "housekeeping" in queues:
        media.open(or_exit(MediaSettings))
    verbs.serve(queues)
    client = redis.connect(settings.redis_url)
    worker = Worker(
        broker.opened(),
        queues=queues,
        worker_threads=settings.worker_threads,
        worker_timeout=settings.worker_poll_ms,
    )
    worker.start()
    log.info("working", kind=kind, queues=sorted(queues), threads=settings.worker_threads)
    while not told.is_set():
        presence.try_beat(client, queues)
        told.wait(presence.BEAT)
    log.info("stopping", kind=kind)
    worker.stop(timeout=_SHUTDOWN)
    presence.leave(client, queues)


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("which queues? as in: python -m workers.main payments")
    run(sys.argv[1], set(sys.argv[1:]))
