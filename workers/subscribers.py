"""The subscribers process: hands events to the handlers of our own services. Any number of them may run."""

from actors import subscriber
from actors.event_handlers import SUBSCRIBERS
from db import redis
from workers import process

# One pass handles up to 256 events of each subscriber.
_HANGS_AFTER_S = 120


def run() -> None:
    """Handles events until the process is stopped."""
    client = redis.connect(process.start("subscribers").redis_url)
    process.repeat(
        "subscribers",
        lambda: subscriber.once(SUBSCRIBERS),
        client,
        process.until_stopped(),
        rest=subscriber.Notifications(client, subscriber.types_of(SUBSCRIBERS)).wait,
        hangs_after_s=_HANGS_AFTER_S,
    )


if __name__ == "__main__":
    run()
