"""The seam to a payment provider: all that the payments side knows of one.

A provider charges at most once under one idempotency key, for ever, and answers a repetition with what it
decided the first time. Its conformance test is what an adapter to a real one has to pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

# How long one call may take as a whole, in seconds: shorter than its lease (actors/job_leases.py). A timeout of
# each read is not enough, since a slow answer begins it anew.
DEADLINE_S = 12.0
# How much of a decline's code is kept.
CODE_LENGTH = 100
# And of the texts in a line of a statement: more does not fit into an index.
TEXT_LENGTH = 600


class Outcome(StrEnum):
    """What a provider decides."""

    CHARGED = "charged"
    DECLINED = "declined"


@dataclass(frozen=True)
class Order:
    """What a provider is asked to charge. The key is ours, made before the first call and never anew."""

    key: str
    payment_id: UUID
    amount: Decimal
    currency: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What it decided; a decline has a code, such as `insufficient_funds`. And over which money, if it says
    so: then that has to be what was ordered."""

    outcome: Outcome
    code: str | None = None
    amount: Decimal | None = field(default=None, compare=False)
    currency: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # Whatever an adapter hands on has to fit into our books, but for what no money is: that is no answer.
        if self.amount is not None and not self.amount.is_finite():
            raise ValueError(f"the provider says {self.amount}")
        if self.code is not None:
            object.__setattr__(self, "code", _kept(self.code)[:CODE_LENGTH])
        if self.currency is not None:
            object.__setattr__(self, "currency", _kept(self.currency))


@dataclass(frozen=True)
class Line:
    """One booking in a provider's statement: its own id, and the key of our order."""

    id: str
    key: str
    amount: Decimal
    currency: str
    outcome: Outcome
    booked_at: datetime

    def __post_init__(self) -> None:
        for name in ("id", "key", "currency"):
            object.__setattr__(self, name, _kept(getattr(self, name))[:TEXT_LENGTH])


def _kept(text: str) -> str:
    # PostgreSQL keeps every character but this one.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True)
class Statement:
    """Some lines of a statement, and where to go on; None at its end."""

    lines: Sequence[Line]
    more: str | None


class Unavailable(Exception):
    """It said that it could not do it (5xx), or was never reached: nothing of this call is under way."""


class NoAnswer(Exception):
    """It was asked, and what became of it is not known: this call may still be heard."""


class Provider(Protocol):
    """A payment provider. Whatever else its methods raise is to be taken for NoAnswer.

    Each call ends within DEADLINE_S, whatever the other side does: what is not answered by then is NoAnswer.

    An answer may also come unasked, a second time or late: the adapter hands it to `payments.hear`.
    """

    def charge(self, order: Order) -> Answer:
        """Charges, or declines to. Raises Unavailable or NoAnswer."""
        ...

    def find(self, key: str) -> Answer | None:
        """What was decided under this key; None when the provider knows of no such order. Raises as above."""
        ...

    def statement(self, day: date, after: str | None) -> Statement:
        """What was decided on a day (UTC) that is over, from the beginning or from where `more` pointed."""
        ...


_provider: Provider | None = None


def choose(provider: Provider) -> None:
    """Sets this process's provider. Only the PSP worker does."""
    global _provider
    _provider = provider


def chosen() -> Provider:
    """This process's provider. Raises RuntimeError where none was chosen."""
    if _provider is None:
        raise RuntimeError("no payment provider was chosen: only the PSP worker talks to one")
    return _provider
