"""The state machine of payments and payment requests: a table of transitions. Nothing else moves a status."""

from enum import StrEnum
from typing import Any

from db.core.errors import DomainError, ErrorCode
from db.states import PaymentStatus, PaymentType


class Transition(StrEnum):
    """What can happen to a payment or request; the `transactionType` of its history."""

    CREATE = "create"
    BEGIN = "begin"
    ENGAGE = "engage"
    COMPLETE = "complete"
    FAIL = "fail"
    REOPEN = "reopen"
    EXPIRE = "expire"
    CANCEL = "cancel"


# The keys are plain strings, because the columns of a row are; a member of a StrEnum equals its value.
TRANSITIONS: dict[tuple[str, str | None, Transition], PaymentStatus] = {
    (PaymentType.PAYMENT, None, Transition.CREATE): PaymentStatus.PENDING,
    (PaymentType.PAYMENT, PaymentStatus.PENDING, Transition.BEGIN): PaymentStatus.PROCESSING,
    (PaymentType.PAYMENT, PaymentStatus.PENDING, Transition.CANCEL): PaymentStatus.CANCELLED,
    (PaymentType.PAYMENT, PaymentStatus.PROCESSING, Transition.COMPLETE): PaymentStatus.COMPLETED,
    (PaymentType.PAYMENT, PaymentStatus.PROCESSING, Transition.FAIL): PaymentStatus.FAILED,
    (PaymentType.INITIATE, None, Transition.CREATE): PaymentStatus.PENDING,
    (PaymentType.INITIATE, PaymentStatus.PENDING, Transition.BEGIN): PaymentStatus.INITIATED,
    (PaymentType.INITIATE, PaymentStatus.PENDING, Transition.CANCEL): PaymentStatus.CANCELLED,
    # A request is engaged while a payment of it is under way. It completes with that payment, and reopens
    # when that payment fails or is cancelled.
    (PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.ENGAGE): PaymentStatus.PROCESSING,
    (PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.EXPIRE): PaymentStatus.FAILED,
    (PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.FAIL): PaymentStatus.FAILED,
    (PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.CANCEL): PaymentStatus.CANCELLED,
    (PaymentType.INITIATE, PaymentStatus.PROCESSING, Transition.COMPLETE): PaymentStatus.COMPLETED,
    (PaymentType.INITIATE, PaymentStatus.PROCESSING, Transition.REOPEN): PaymentStatus.INITIATED,
}

# The words of error messages and log lines for a type, and for a transition that was applied.
NAMES: dict[str, str] = {PaymentType.PAYMENT: "payment", PaymentType.INITIATE: "payment request"}
PARTICIPLES = {
    Transition.CREATE: "created",
    Transition.BEGIN: "begun",
    Transition.ENGAGE: "engaged",
    Transition.COMPLETE: "completed",
    Transition.FAIL: "failed",
    Transition.REOPEN: "reopened",
    Transition.EXPIRE: "expired",
    Transition.CANCEL: "cancelled",
}


class InvalidTransition(DomainError, code=ErrorCode.INVALID_TRANSITION):
    """{subject} does not allow this."""

    def __init__(self, payment_type: str, status: str | None, **words: Any) -> None:
        name, article = NAMES[payment_type], "An" if status == PaymentStatus.INITIATED else "A"
        following = [
            to for (of, before, _), to in TRANSITIONS.items() if (of, before) == (payment_type, status)
        ]
        super().__init__(
            {"status": status, "nextStatuses": list(dict.fromkeys(following))},
            thing=name,
            status=status,
            subject=f"{article} {status or 'new'} {name}",
            **words,
        )


class TransitionRefused(InvalidTransition):
    """{subject} cannot be {participle}."""


def next_status(payment_type: str, status: str | None, transition: Transition) -> PaymentStatus:
    """Returns the status that the transition leads to. Raises TransitionRefused if the table has none."""
    try:
        return TRANSITIONS[payment_type, status, transition]
    except KeyError:
        raise TransitionRefused(payment_type, status, participle=PARTICIPLES[transition]) from None


def is_allowed(payment_type: str, status: str, transition: Transition) -> bool:
    """Returns whether the table has this transition."""
    return (payment_type, status, transition) in TRANSITIONS
