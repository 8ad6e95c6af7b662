"""What our own services do at an event; the subscribers process calls these."""

from uuid import UUID

from actors import mail
from actors.events import EventType
from actors.jobs import enqueue
from actors.subscriber import Subscriber
from db import config, payments, states
from db.core.errors import NotFound
from db.event_log import Event


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
