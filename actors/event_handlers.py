"""Our own subscribers and the handlers of their events, which the subscribers process calls."""

from uuid import UUID

from actors import mail
from actors.events import EventType
from actors.jobs import enqueue
from actors.subscriber import Subscriber
from db import config, states
from db.event_log import Event


def payment_mails(event: Event) -> None:
    """Enqueues a mail about a payment that has ended, to the payer and to the payee."""
    if event.data["type"] != states.PaymentType.PAYMENT:
        return
    payment_id = UUID(event.data["id"])
    enqueue(mail.notice_job(payment_id, to_payee=False))
    # A payment of a request has a payee. The event does not say who: not every reader of events may know.
    if event.data["requestId"]:
        enqueue(mail.notice_job(payment_id, to_payee=True))


def config_cache(_event: Event) -> None:
    """Clears this process's cache of the configuration. The other processes read it once a second."""
    config.clear_cache()


# Sessions need no subscriber: a web process remembers one for a second at most (decision 35).
SUBSCRIBERS = [
    Subscriber(
        "subscribers.payment_mails", payment_mails, {EventType.PAYMENT_COMPLETED, EventType.PAYMENT_FAILED}
    ),
    Subscriber("subscribers.config_cache", config_cache, {EventType.CONFIG_UPDATED}),
]
