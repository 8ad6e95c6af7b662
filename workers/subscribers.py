"""The subscribers process: hands events to the handlers of our own services. Any number of them may run."""

from actors.event_handlers import SUBSCRIBERS
from actors.subscriber import Notifications, once
from db import redis
from workers import process

# One pass handles up to 256 events of each subscriber.
_HANGS_AFTER_S = 120


def run() -> None:
    """Handles events until the process is stopped."""
    client = redis.connect(process.start("subscribers").redis_url)
    types = frozenset[str]().union(*(subscriber.types for subscriber in SUBSCRIBERS))
    process.repeat(
        "subscribers",
        lambda: once(SUBSCRIBERS),
        client,
        process.until_stopped(),
        rest=Notifications(client, types).wait,
        hangs_after_s=_HANGS_AFTER_S,
    )


if __name__ == "__main__":
    process.refuse_arguments("workers.subscribers")
    run()
