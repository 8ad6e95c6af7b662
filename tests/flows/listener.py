"""A subscriber in a process of its own: it writes down each event that it gets, from the first one on."""

from actors import subscriber
from actors.events import EventType
from actors.subscriber import Subscriber
from db import postgres, redis
from db.event_log import Event
from workers import process


def listener(event: Event) -> None:
    """As often as it is called there is a row."""
    postgres.rows("INSERT INTO received (id, seq) VALUES (%s, %s)", event.id, event.seq)


if __name__ == "__main__":
    subscribers = [Subscriber("flow.listener", listener, list(EventType))]
    client = redis.connect(process.start("listener").redis_url)
    with postgres.connection():
        sql = "INSERT INTO admin.subscriptions (name, seq) VALUES (%s, 0) ON CONFLICT DO NOTHING"
        postgres.rows(sql, subscribers[0].name)
    process.repeat(
        "listener",
        lambda: subscriber.once(subscribers),
        client,
        process.until_stopped(),
        rest=subscriber.Notifications(client).wait,
    )
