"""The law: which step a payment may take, and where it leads. Pure; nothing else moves a status."""

from enum import StrEnum

from db.core.errors import DomainError, ErrorCode
from db.states import PaymentStatus, PaymentType


class Transition(StrEnum):
    """What can happen to a payment or a request; the `transactionType` of its history."""

    CREATE = "create"
    BEGIN = "begin"
    ENGAGE = "engage"
    COMPLETE = "complete"
    FAIL = "fail"
    REOPEN = "reopen"
    EXPIRE = "expire"
    CANCEL = "cancel"


TRANSITIONS: dict[tuple[PaymentType, PaymentStatus | None, Transition], PaymentStatus] = {
    (PaymentType.PAYMENT, None, Transition.CREATE): PaymentStatus.PENDING,
    (PaymentType.PAYMENT, PaymentStatus.PENDING, Transition.BEGIN): PaymentStatus.PROCESSING,
    (PaymentType.PAYMENT, PaymentStatus.PENDING, Transition.CANCEL): PaymentStatus.CANCELLED,
    (PaymentType.PAYMENT, PaymentStatus.PROCESSING, Transition.COMPLETE): PaymentStatus.COMPLETED,
    (PaymentType.PAYMENT, PaymentStatus.PROCESSING, Transition.FAIL): PaymentStatus.FAILED,
    (PaymentType.INITIATE, None, Transition.CREATE): PaymentStatus.PENDING,
    (PaymentType.INITIATE, PaymentStatus.PENDING, Transition.BEGIN): PaymentStatus.INITIATED,
    (PaymentType.INITIATE, PaymentStatus.PENDING, Transition.CANCEL): PaymentStatus.CANCELLED,
    # Engaged: a payment against it is under way. Completed with it, reopened when it fails or is cancelled.
    (PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.ENGAGE): PaymentStatus.PROCESSING,
    (PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.EXPIRE): PaymentStatus.FAILED,
    (PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.FAIL): PaymentStatus.FAILED,
    (PaymentType.INITIATE, PaymentStatus.INITIATED, Transition.CANCEL): PaymentStatus.CANCELLED,
    (PaymentType.INITIATE, PaymentStatus.PROCESSING, Transition.COMPLETE): PaymentStatus.COMPLETED,
    (PaymentType.INITIATE, PaymentStatus.PROCESSING, Transition.REOPEN): PaymentStatus.INITIATED,
}


THINGS = {PaymentType.PAYMENT: "payment", PaymentType.INITIATE: "payment request"}


class InvalidTransition(DomainError):
    """The state of this {thing} does not allow this: it is {status}."""

    code = ErrorCode.INVALID_TRANSITION

    def __init__(self, type: PaymentType, status: str | None, **words: object) -> None:
        following = [to for (of, before, _), to in TRANSITIONS.items() if (of, before) == (type, status)]
        super().__init__(
            {"status": status, "nextStatuses": list(dict.fromkeys(following))},
            thing=THINGS[type],
            status=status or "not there yet",
            **words,
        )


class TransitionRefused(InvalidTransition):
    """A {thing} that is {status} cannot take the step: {step}."""


def next_status(type: PaymentType, status: PaymentStatus | None, step: Transition) -> PaymentStatus:
    """Where the step leads. Raises Refused when the law knows no such step."""
    try:
        return TRANSITIONS[type, status, step]
    except KeyError:
        raise TransitionRefused(type, status, step=step) from None


def is_allowed(type: PaymentType, status: PaymentStatus, step: Transition) -> bool:
    """Whether the law knows this step."""
    return (type, status, step) in TRANSITIONS
