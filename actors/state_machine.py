"""The law: which step a payment may take, and where it leads. Pure; nothing else moves a status."""

from enum import StrEnum

from db.core.errors import Code, Fault
from db.states import Status, Type


class Step(StrEnum):
    """What can happen to a payment or a request; the `transactionType` of its history."""

    CREATE = "create"
    BEGIN = "begin"
    ENGAGE = "engage"
    COMPLETE = "complete"
    FAIL = "fail"
    REOPEN = "reopen"
    EXPIRE = "expire"
    CANCEL = "cancel"


LAW: dict[tuple[Type, Status | None, Step], Status] = {
    (Type.PAYMENT, None, Step.CREATE): Status.PENDING,
    (Type.PAYMENT, Status.PENDING, Step.BEGIN): Status.PROCESSING,
    (Type.PAYMENT, Status.PENDING, Step.CANCEL): Status.CANCELLED,
    (Type.PAYMENT, Status.PROCESSING, Step.COMPLETE): Status.COMPLETED,
    (Type.PAYMENT, Status.PROCESSING, Step.FAIL): Status.FAILED,
    (Type.INITIATE, None, Step.CREATE): Status.PENDING,
    (Type.INITIATE, Status.PENDING, Step.BEGIN): Status.INITIATED,
    (Type.INITIATE, Status.PENDING, Step.CANCEL): Status.CANCELLED,
    # Engaged: a payment against it is under way. Completed with it, reopened when it fails or is cancelled.
    (Type.INITIATE, Status.INITIATED, Step.ENGAGE): Status.PROCESSING,
    (Type.INITIATE, Status.INITIATED, Step.EXPIRE): Status.FAILED,
    (Type.INITIATE, Status.INITIATED, Step.FAIL): Status.FAILED,
    (Type.INITIATE, Status.INITIATED, Step.CANCEL): Status.CANCELLED,
    (Type.INITIATE, Status.PROCESSING, Step.COMPLETE): Status.COMPLETED,
    (Type.INITIATE, Status.PROCESSING, Step.REOPEN): Status.INITIATED,
}


THINGS = {Type.PAYMENT: "payment", Type.INITIATE: "payment request"}


class InvalidTransition(Fault):
    """The state of this {thing} does not allow this: it is {status}."""

    code = Code.INVALID_TRANSITION

    def __init__(self, type: Type, status: str | None, **words: object) -> None:
        following = [to for (of, before, _), to in LAW.items() if (of, before) == (type, status)]
        super().__init__(
            {"status": status, "nextStatuses": list(dict.fromkeys(following))},
            thing=THINGS[type],
            status=status or "not there yet",
            **words,
        )


class Refused(InvalidTransition):
    """A {thing} that is {status} cannot take the step: {step}."""


def after(type: Type, status: Status | None, step: Step) -> Status:
    """Where the step leads. Raises Refused when the law knows no such step."""
    try:
        return LAW[type, status, step]
    except KeyError:
        raise Refused(type, status, step=step) from None


def allows(type: Type, status: Status, step: Step) -> bool:
    """Whether the law knows this step."""
    return (type, status, step) in LAW
