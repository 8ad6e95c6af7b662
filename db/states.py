"""The types and statuses of payments."""

from enum import StrEnum


class PaymentType(StrEnum):
    """The types of a payment: `initiate` is a payment request, `payment` a payment."""

    INITIATE = "initiate"
    PAYMENT = "payment"


class PaymentStatus(StrEnum):
    """The statuses of a payment."""

    PENDING = "pending"
    INITIATED = "initiated"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Terminal statuses: no transition leaves them.
TERMINAL = frozenset({PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.CANCELLED})
