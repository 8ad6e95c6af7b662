"""How a route can refuse: what its operation names, and what follows from the gates before it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from api.http import errors, forms
from api.http.operation import Operation, RawOperation
from api.middleware.rate_limit import RateLimited
from api.security.permissions import ROLES_BY_PERMISSION, Forbidden, Permission
from api.security.tokens import Unauthorized, UnauthorizedReason
from db.core.errors import DomainError, ErrorCode, NotFound
from db.states import PaymentStatus
from db.users import Role


@dataclass(frozen=True)
class Refusal:
    """A code, a sentence that may come with it, and what its details may be."""

    name: str
    code: ErrorCode
    message: str
    details: Mapping[str, Any]


# No Fault that anybody raises, but what the envelope says to any request.
_METHOD_NOT_ALLOWED = Refusal(
    "MethodNotAllowed", ErrorCode.METHOD_NOT_ALLOWED, "This address does not know this method.", {}
)
_EVERYWHERE = (
    _METHOD_NOT_ALLOWED,
    Refusal("RequestTimeout", ErrorCode.REQUEST_TIMEOUT, "The request was not complete in time.", {}),
    Refusal("InternalError", ErrorCode.INTERNAL_ERROR, "Something went wrong on our side.", {}),
    Refusal(
        "ServiceUnavailable", ErrorCode.SERVICE_UNAVAILABLE, "The service is not available at the moment.", {}
    ),
)

_DETAILS: dict[ErrorCode, dict[str, Any]] = {
    ErrorCode.UNAUTHORIZED: {"reason": UnauthorizedReason.EXPIRED},
    ErrorCode.RATE_LIMITED: {"retryAfter": 60},
    ErrorCode.REQUEST_CHANGED: {"amount": "12.50", "currency": "EUR"},
    ErrorCode.INVALID_TRANSITION: {"status": PaymentStatus.COMPLETED, "nextStatuses": []},
    ErrorCode.VALIDATION_ERROR: {
        "fields": [{"field": "limit", "message": "Input should be less than or equal to 100"}]
    },
}


_WHEN = {
    ErrorCode.VALIDATION_ERROR: "The input is wrong; `details.fields` names every fault.",
    ErrorCode.MALFORMED_JSON: "The body is no JSON object.",
    ErrorCode.UNAUTHORIZED: "The access token is missing or not good; `details.reason` says why.",
    ErrorCode.INVALID_CREDENTIALS: "The e-mail address or the password is wrong.",
    ErrorCode.TOKEN_REUSED: "The refresh token was used before; its session has ended.",
    ErrorCode.FORBIDDEN: "The caller may not do this.",
    ErrorCode.NOT_FOUND: "There is no such thing, or it is not the caller's to see.",
    ErrorCode.METHOD_NOT_ALLOWED: "The address does not know the method; `Allow` names those it knows.",
    ErrorCode.REQUEST_TIMEOUT: "Head and body were not complete in time; the connection is closed.",
    ErrorCode.EMAIL_TAKEN: "There is an account with this e-mail address.",
    ErrorCode.INVALID_TRANSITION: "The state of the payment does not allow this; `details` has its status and "
    "those that can follow.",
    ErrorCode.REQUEST_NOT_PAYABLE: "The payment request cannot be paid now.",
    ErrorCode.REQUEST_CHANGED: "The payment request has another amount or currency than the payer saw; `details` "
    "has those of now. Nothing was paid.",
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: "The first request with this `Idempotency-Key` is not answered yet.",
    ErrorCode.LAST_ADMIN: "The last administrator can be neither closed nor given another role.",
    ErrorCode.LENGTH_REQUIRED: "The request does not say how long its body is.",
    ErrorCode.VERSION_MISMATCH: "`If-Match` names another version.",
    ErrorCode.PAYLOAD_TOO_LARGE: "The body is too large.",
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: "The body is not of the kind that this address takes.",
    ErrorCode.IDEMPOTENCY_MISMATCH: "The `Idempotency-Key` was used with another request.",
    ErrorCode.RATE_LIMITED: "Too many requests: try again after `Retry-After` seconds.",
    ErrorCode.INTERNAL_ERROR: "Something went wrong on our side.",
    ErrorCode.SERVICE_UNAVAILABLE: "The service is not available, or refuses changes for now: try again after "
    "`Retry-After` seconds.",
}


def codes() -> dict[str, Any]:
    """The schema of the closed list of codes: each with its status and when it comes."""
    lines = [f"* `{code}` ({code.status}): {when}" for code, when in _WHEN.items()]
    return {
        "title": "ErrorCode",
        "type": "string",
        "enum": list(_WHEN),
        "description": "\n".join(["Why a request was refused.", "", *lines]),
        "x-enumDescriptions": dict(_WHEN),
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
    subject="A completed payment",
    participle="cancelled",
    target="completed",
    fields="amount",
    token="access",
    reason="its status is completed",
    amount="12.50",
    currency="EUR",
)


def of(operation: Operation, *, has_id: bool) -> list[Refusal]:
    """Every refusal of an operation, in the order of their statuses."""
    faults: list[type[DomainError]] = [
        RateLimited,
        errors.LengthRequired,
        errors.PayloadTooLarge,
        errors.ValidationFailed,
        # Also what takes no body takes none that is malformed or says something.
        *([forms.NotAForm] if operation.file else [errors.MalformedJson, errors.UnsupportedMediaType]),
        *operation.errors,
        *_by_the_gates(operation),
        *([NotFound] if has_id else []),
    ]
    found = [*map(_told, dict.fromkeys(faults)), *_EVERYWHERE]
    return sorted(found, key=lambda refusal: refusal.code.status)


def of_page(page: RawOperation) -> list[Refusal]:
    """The refusals of a page: what it names, and what follows from its method."""
    found = [*map(_told, page.errors), _METHOD_NOT_ALLOWED]
    return sorted(found, key=lambda refusal: refusal.code.status)


def _by_the_gates(operation: Operation) -> Iterable[type[DomainError]]:
    if operation.permission is not Permission.ANYONE:
        yield Unauthorized
    if ROLES_BY_PERMISSION[operation.permission] != frozenset(Role):
        yield Forbidden


def _told(fault: type[DomainError]) -> Refusal:
    sentence = (fault.__doc__ or "").strip().format_map(_WORDS)
    return Refusal(fault.__name__, fault.code, sentence, _DETAILS.get(fault.code, {}))
