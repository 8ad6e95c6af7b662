"""The subscribers process: what our own services do at an event. Any number of them may run.

`python -m workers.subscribers`; `python -m workers.subscribers again` handles the events that were given up.
"""

import sys
from uuid import UUID

import structlog

from actors import mail, subscriber
from actors.events import EventType
from actors.jobs import enqueue
from actors.subscriber import Subscriber
from db import config, heartbeats, payments, redis, states
from db.core.errors import NotFound
from db.event_log import Event
from workers import process

log = structlog.get_logger(__name__)

# After how long without a finished pass the process exits: one pass handles up to 256 events of each
# subscriber.
_HANGS_AFTER_S = 120


def payment_mails(event: Event) -> None:
    """Enqueues a mail about a payment that has ended, to the payer and to the payee."""
    if event.data["type"] != states.PaymentType.PAYMENT:
        return
    # The event does not name the payee: not every reader of events may know.
    payment = payments.get(UUID(event.data["id"]))
    if payment is None:
        raise NotFound(thing="payment")
    for user_id in (payment.user_id, payment.payee_id):
        if user_id is not None:
            enqueue(mail.notify_payment_ended.job(user_id, payment.id))


def config_cache(_event: Event) -> None:
    """Clears this process's cache of the configuration. The other processes read it once a second."""
    config.clear_cache()


# Sessions need no subscriber: every request reads its session from the database (decision 4).
SUBSCRIBERS = [
    Subscriber(
        "subscribers.payment_mails", payment_mails, {EventType.PAYMENT_COMPLETED, EventType.PAYMENT_FAILED}
    ),
    Subscriber("subscribers.config_cache", config_cache, {EventType.CONFIG_UPDATED}),
]


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


def retry_missed() -> int:
    """Handles the events that were given up; returns how many were handled."""
    return subscriber.retry_missed(SUBSCRIBERS)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            run()
        case ["again"]:
            process.start()
            sys.stdout.write(f"{retry_missed()} events are done now\n")
        case _:
            sys.exit("usage: python -m workers.subscribers [again]")
