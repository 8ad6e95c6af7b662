"""Whether a payment request can be paid: what its state, its vendor and the configuration say."""

from collections.abc import Sequence
from uuid import UUID

from actors import state_machine, transitions
from actors.state_machine import Transition
from db import config, users
from db.payments import Payment
from db.states import PaymentStatus, PaymentType


def obstacles(requests: Sequence[Payment], customer_id: UUID) -> dict[UUID, str]:
    """Why this customer cannot pay these requests now, by their ids; a request that can be paid is not in it.

    One query whatever the number of requests.
    """
    open_ids = {
        it.id
        for it in requests
        if state_machine.is_allowed(PaymentType(it.type), PaymentStatus(it.status), Transition.ENGAGE)
    }
    vendors = users.active_vendors({request.user_id for request in requests if request.id in open_ids})
    largest = config.number(config.ConfigKey.PAYMENTS_MAX_AMOUNT) if open_ids else None

    def obstacle(request: Payment) -> str | None:
        if request.id not in open_ids:
            return f"it is {request.status}"
        if request.user_id == customer_id:
            return "it is the payer's own"
        if request.user_id not in vendors:
            return transitions.NO_VENDOR
        if largest is not None and request.amount > largest:
            return f"payments of more than {largest} are not taken now"
        return None

    found = {request.id: obstacle(request) for request in requests}
    return {id: reason for id, reason in found.items() if reason}
