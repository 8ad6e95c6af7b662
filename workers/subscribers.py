"""The hub: what our own services do when they hear of an event.

`python -m workers.subscribers` runs it, any number of them; `python -m workers.subscribers again` hands over once more
what was given up.
"""

import sys
from uuid import UUID

import structlog

from actors import mail
from actors.events import Type
from actors.jobs import promise
from actors.subscriber import Subscriber
from db import config, heartbeats, payments, redis, states
from db.core.errors import NotFound
from db.event_log import Event
from workers import process

log = structlog.get_logger(__name__)

# After how long without a look it hangs, in seconds: one hands many events to each handler.
_HANGS_AFTER_S = 120

hub = Subscriber("hub")


def letters(event: Event) -> None:
    """A payment has ended: whoever paid is told, and whoever was to be paid."""
    if event.data["type"] != states.Type.PAYMENT:
        return
    # Who is to be paid is not for everybody to hear, so it is not in the event.
    payment = payments.get(UUID(event.data["id"]))
    if payment is None:
        raise NotFound(thing="payment")
    for reader in (payment.user_id, payment.payee_id):
        if reader is not None:
            promise(mail.tell_of_payment.message(reader, payment.id))


def configuration(_event: Event) -> None:
    """What this process knows of the configuration is old. The others look once a second: db/config.py."""
    config.forget()


hub.subscribe(Type.PAYMENT_COMPLETED, letters)
hub.subscribe(Type.PAYMENT_FAILED, letters)
hub.subscribe(Type.CONFIG_UPDATED, configuration)
# A session that has ended needs no subscriber: it is asked from the database at every request (decision 4).


def run() -> None:
    """Reads the log until told to end."""
    settings = process.boot()
    told = process.until_told()
    wire = redis.connect(settings.redis_url)
    log.info("working", kind="hub")
    pulse = process.Pulse("hub", _HANGS_AFTER_S)
    pulse.watch()

    def beat() -> None:
        pulse.beat()
        heartbeats.try_beat(wire, ["hub"])

    hub.run(told, wire, beat=beat)
    heartbeats.leave(wire, ["hub"])


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            run()
        case ["again"]:
            process.boot()
            sys.stdout.write(f"{hub.again()} events are done now\n")
        case _:
            sys.exit("usage: python -m workers.subscribers [again]")
