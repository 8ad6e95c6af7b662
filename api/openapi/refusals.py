"""How a route can refuse: what its operation names, and what follows from the gates before it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from api.gateway import body, form
from api.gateway.limits import RateLimited
from api.gateway.operation import Operation, Page
from api.policies import POLICY, Forbidden, Permission
from api.tokens import Reason, Unauthorized
from db.auth import Role
from db.fault import Code, Fault, NotFound


@dataclass(frozen=True)
class Refusal:
    """A code, a sentence that may come with it, and what its details may be."""

    name: str
    code: Code
    message: str
    details: Mapping[str, Any]


# No Fault that anybody raises, but what the envelope says to any request.
_EVERYWHERE = (
    Refusal("MethodNotAllowed", Code.METHOD_NOT_ALLOWED, "This address does not know this method.", {}),
    Refusal("RequestTimeout", Code.REQUEST_TIMEOUT, "The request was not complete in time.", {}),
    Refusal("InternalError", Code.INTERNAL_ERROR, "Something went wrong on our side.", {}),
    Refusal(
        "ServiceUnavailable", Code.SERVICE_UNAVAILABLE, "The service is not available at the moment.", {}
    ),
)

_DETAILS: dict[Code, dict[str, Any]] = {
    Code.UNAUTHORIZED: {"reason": Reason.EXPIRED},
    Code.VALIDATION_ERROR: {
        "fields": [{"field": "limit", "message": "Input should be less than or equal to 100"}]
    },
}


class _Words(dict[str, str]):
    """What fills the gaps of a sentence in an example; a gap that is not here shows its own name."""

    def __missing__(self, word: str) -> str:
        return word


_WORDS = _Words(
    thing="payment",
    what="is not valid JSON",
    limit="1",
    seconds="60",
    role=Role.VENDOR,
    type="payment",
    status="completed",
    step="cancel",
    reason="it is completed",
    amount="12.50",
    currency="EUR",
)


def of(operation: Operation, *, has_id: bool) -> list[Refusal]:
    """Every refusal of an operation, in the order of their statuses."""
    faults: list[type[Fault]] = [
        RateLimited,
        body.LengthRequired,
        body.TooLarge,
        body.Invalid,
        # Also what takes no body takes none that is malformed or says something.
        *([form.NotAForm] if operation.file else [body.Malformed, body.WrongMediaType]),
        *operation.refuses,
        *_by_the_gates(operation),
        *([NotFound] if has_id else []),
    ]
    found = [*map(_told, dict.fromkeys(faults)), *_EVERYWHERE]
    return sorted(found, key=lambda refusal: refusal.code.status)


def of_page(page: Page) -> list[Refusal]:
    """The refusals that a page names: behind most gates it stands in front."""
    return sorted(map(_told, page.refuses), key=lambda refusal: refusal.code.status)


def _by_the_gates(operation: Operation) -> Iterable[type[Fault]]:
    if operation.may is not Permission.ANYONE:
        yield Unauthorized
    if POLICY[operation.may] != frozenset(Role):
        yield Forbidden


def _told(fault: type[Fault]) -> Refusal:
    sentence = (fault.__doc__ or "").strip().format_map(_WORDS)
    return Refusal(fault.__name__, fault.code, sentence, _DETAILS.get(fault.code, {}))
