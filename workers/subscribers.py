"""The hub: what our own services do when they hear of an event.

`python -m workers.subscribers` runs it, any number of them; `python -m workers.subscribers again` hands over once more
what was given up.
"""

import sys
from uuid import UUID

import structlog

from actors import mail
from actors.events import EventType
from actors.jobs import enqueue
from actors.subscriber import Subscriber
from db import config, heartbeats, payments, redis, states
from db.core.errors import NotFound
from db.event_log import Event
from workers import process

log = structlog.get_logger(__name__)

# After how long without a look it hangs, in seconds: one hands many events to each handler.
_HANGS_AFTER_S = 120

subscriber = Subscriber("subscribers")


def payment_mails(event: Event) -> None:
    """A payment has ended: whoever paid is told, and whoever was to be paid."""
    if event.data["type"] != states.PaymentType.PAYMENT:
        return
    # Who is to be paid is not for everybody to hear, so it is not in the event.
    payment = payments.get(UUID(event.data["id"]))
    if payment is None:
        raise NotFound(thing="payment")
    for reader in (payment.user_id, payment.payee_id):
        if reader is not None:
            enqueue(mail.notify_payment_ended.job(reader, payment.id))


def config_cache(_event: Event) -> None:
    """What this process knows of the configuration is old. The others look once a second: db/config.py."""
    config.clear_cache()


subscriber.subscribe(EventType.PAYMENT_COMPLETED, payment_mails)
subscriber.subscribe(EventType.PAYMENT_FAILED, payment_mails)
subscriber.subscribe(EventType.CONFIG_UPDATED, config_cache)
# A session that has ended needs no subscriber: it is asked from the database at every request (decision 4).


def run() -> None:
    """Reads the log until told to end."""
    settings = process.start()
    told = process.until_stopped()
    redis_client = redis.connect(settings.redis_url)
    log.info("working", kind="subscribers")
    pulse = process.Pulse("subscribers", _HANGS_AFTER_S)
    pulse.watch()

    def beat() -> None:
        pulse.beat()
        heartbeats.beat(redis_client, ["subscribers"])

    subscriber.run(told, redis_client, beat=beat)
    heartbeats.leave(redis_client, ["subscribers"])


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            run()
        case ["again"]:
            process.start()
            sys.stdout.write(f"{subscriber.again()} events are done now\n")
        case _:
            sys.exit("usage: python -m workers.subscribers [again]")
