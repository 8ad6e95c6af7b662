"""The subscribers process: hands events to the handlers of our own services. Any number of them may run."""

import structlog

from actors import subscriber
from actors.event_handlers import SUBSCRIBERS
from db import heartbeats, redis
from workers import process

log = structlog.get_logger(__name__)

# After how long without a finished pass the process exits: one pass handles up to 256 events of each
# subscriber.
_HANGS_AFTER_S = 120


def run() -> None:
    """Handles events until the process is stopped."""
    settings = process.start()
    stopped = process.until_stopped()
    client = redis.connect(settings.redis_url)
    watchdog = process.Watchdog("subscribers", _HANGS_AFTER_S)
    watchdog.start()
    log.info("started", kind="subscribers")

    def beat() -> None:
        watchdog.beat()
        heartbeats.beat(client, ["subscribers"])

    subscriber.run(SUBSCRIBERS, stopped, client, beat=beat)
    heartbeats.leave(client, ["subscribers"])


if __name__ == "__main__":
    run()
