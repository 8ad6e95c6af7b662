"""The interface to a payment provider: all that the rest of the system knows about providers.

A provider charges at most once under one idempotency key, without time limit, and answers a repeated order
with its first decision. Every adapter has to pass `tests/actors/psp/test_conformance.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

# The deadline of a whole call, in seconds: shorter than its lease (actors/job_leases.py). A timeout for each
# read is not enough, because a slow answer restarts that timeout with each byte.
DEADLINE_S = 12.0
# Lengths to which texts of a provider are cut: the code of a decline, and the texts of a statement line,
# which have to fit into an index.
CODE_LENGTH = 100
TEXT_LENGTH = 600


class Outcome(StrEnum):
    """The decision of a provider."""

    CHARGED = "charged"
    DECLINED = "declined"


@dataclass(frozen=True)
class Order:
    """A charge to be ordered. The key is created by us before the first call and never changes."""

    key: str
    payment_id: UUID
    amount: Decimal
    currency: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A decision of the provider; a decline has a code, such as `insufficient_funds`.

    `amount` and `currency` are set if the provider reports them; they must then equal the order's. Raises
    ValueError for an amount that is no number.
    """

    outcome: Outcome
    code: str | None = None
    amount: Decimal | None = field(default=None, compare=False)
    currency: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # Every text of an adapter has to fit into our tables. NaN does not: such an answer is no decision.
        if self.amount is not None and not self.amount.is_finite():
            raise ValueError(f"the provider reports the amount {self.amount}")
        if self.code is not None:
            object.__setattr__(self, "code", _storable(self.code)[:CODE_LENGTH])
        if self.currency is not None:
            object.__setattr__(self, "currency", _storable(self.currency))


@dataclass(frozen=True)
class Line:
    """One decision in a provider's statement: the provider's own id, and as `reference` our order's key."""

    id: str
    reference: str
    amount: Decimal
    currency: str
    outcome: Outcome
    booked_at: datetime

    def __post_init__(self) -> None:
        for name in ("id", "reference", "currency"):
            object.__setattr__(self, name, _storable(getattr(self, name))[:TEXT_LENGTH])


def _storable(text: str) -> str:
    # PostgreSQL stores every character except NUL.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True)
class Statement:
    """A part of a statement; `more` is the place of the next part, None at the end."""

    lines: Sequence[Line]
    more: str | None


class Unavailable(Exception):
    """The provider refused the call (5xx) or was not reached: nothing of this call is under way."""


class NoAnswer(Exception):
    """The call was made and its outcome is unknown: the provider may still receive it."""


class Provider(Protocol):
    """A payment provider. Any exception other than Unavailable counts as NoAnswer.

    A call that goes over HTTP carries the headers `request_context.current().trace_headers`.

    Each call ends within DEADLINE_S, whatever the other side does; without an answer by then it raises
    NoAnswer.

    For a decision that arrives unasked, again or late, the adapter calls `payment_jobs.receive_notice`.
    """

    def charge(self, order: Order) -> Answer:
        """Charges or declines, and returns this decision. Raises Unavailable, NoAnswer."""
        ...

    def find(self, key: str) -> Answer | None:
        """Returns the decision under this key; None if the provider has no such order. Raises as `charge`."""
        ...

    def statement(self, day: date, after: str | None) -> Statement:
        """Returns the decisions of a past day (UTC), from its start or from the place that `more` named."""
        ...


_provider: Provider | None = None


def choose(provider: Provider) -> None:
    """Sets this process's provider. Only the psp worker does."""
    global _provider
    _provider = provider


def chosen() -> Provider:
    """Returns this process's provider. Raises RuntimeError if none was chosen."""
    if _provider is None:
        raise RuntimeError("no payment provider was chosen: only the psp worker calls one")
    return _provider
