"""Where the code of each transition stands: who has just watched one can read it.

A test holds each place to the source, and the transitions to the table in `actors/state_machine.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """A function in a file of the repository."""

    file: str
    function: str

    def __str__(self) -> str:
        return f"{self.file}: {self.function}"


_JOBS, _ENDINGS = "actors/payment_jobs.py", "actors/payment_endings.py"
# A request follows its payment.
_REQUEST_FOLLOWS = Place("actors/transitions.py", "_apply_to_requests")

PLACES: dict[tuple[str, str], Place] = {
    ("payment", "create"): Place(_JOBS, "create_payment"),
    ("payment", "begin"): Place(_JOBS, "begin"),
    ("payment", "complete"): Place(_JOBS, "settle"),
    ("payment", "fail"): Place(_JOBS, "settle"),
    ("payment", "cancel"): Place(_ENDINGS, "cancel"),
    ("initiate", "create"): Place(_JOBS, "create_request"),
    ("initiate", "begin"): Place(_JOBS, "begin"),
    ("initiate", "engage"): Place(_JOBS, "pay_request"),
    ("initiate", "reopen"): _REQUEST_FOLLOWS,
    ("initiate", "complete"): _REQUEST_FOLLOWS,
    ("initiate", "fail"): Place(_ENDINGS, "fail"),
    ("initiate", "expire"): Place(_ENDINGS, "expire_requests"),
    ("initiate", "cancel"): Place(_ENDINGS, "cancel"),
}
# Where more than one function makes a transition, its reason tells which.
PLACES_BY_REASON: dict[tuple[str, str, str], Place] = {
    ("payment", "fail", "provider_unavailable"): Place(_JOBS, "resolve"),
    ("initiate", "cancel", "its vendor takes no payments any more"): Place(_ENDINGS, "withdraw_requests"),
}


def of(payment: Mapping[str, Any], transition: Mapping[str, Any]) -> Place:
    """Returns the place of the code that made a transition of a payment, both as the API shows them."""
    kind, name = payment["type"], transition["transition"]
    if kind == "payment" and name == "create" and payment["requestId"]:
        return Place(_JOBS, "pay_request")
    if kind == "payment" and name == "fail" and (payment["failure"] or {}).get("code") == "failed_by_admin":
        return Place(_ENDINGS, "fail")
    return PLACES_BY_REASON.get((kind, name, transition["reason"] or "")) or PLACES[kind, name]
