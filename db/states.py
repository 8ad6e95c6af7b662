"""What a payment can be, and where it can stand. Only words: the law, the door and the tables share them."""

from enum import StrEnum


class PaymentType(StrEnum):
    """`initiate` is a request for money, `payment` is money."""

    INITIATE = "initiate"
    PAYMENT = "payment"


class PaymentStatus(StrEnum):
    """Where a payment stands."""

    PENDING = "pending"
    INITIATED = "initiated"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


# What nothing leaves.
TERMINAL = frozenset({PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.CANCELLED})
