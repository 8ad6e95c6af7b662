"""The seam to a payment provider: all that the payments side knows of one.

A provider charges at most once under one idempotency key, for ever, and answers a repetition with what it
decided the first time. Its conformance test is what an adapter to a real one has to pass.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID


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
    """What it decided; a decline has a code, such as `insufficient_funds`."""

    outcome: Outcome
    code: str | None = None


class Provider(Protocol):
    """A payment provider."""

    def charge(self, order: Order) -> Answer:
        """Charges, or declines to. Whatever it raises means that the outcome is unknown."""
        ...

    def find(self, key: str) -> Answer | None:
        """What was decided under this key; None when the provider knows of no such order."""
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
