"""The error responses of the OpenAPI document: what an operation declares, and what the middleware raises."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import falcon

from api.http import body, etag
from api.http.operation import Operation, RawOperation
from api.http.responses import MEANING_BY_CODE, MESSAGES, STATUS_BY_CODE
from api.middleware.rate_limit import RateLimited
from api.openapi import headers
from api.security.permissions import ROLES_BY_PERMISSION, Forbidden, Permission
from api.security.tokens import Unauthorized, UnauthorizedReason
from db.core.errors import DomainError, ErrorCode, NotFound
from db.states import PaymentStatus
from db.users import Role

_EXAMPLE_DETAILS: dict[ErrorCode, dict[str, Any]] = {
    ErrorCode.UNAUTHORIZED: {"reason": UnauthorizedReason.EXPIRED},
    ErrorCode.RATE_LIMITED: {"retryAfter": 60},
    ErrorCode.REQUEST_CHANGED: {"amount": "12.50", "currency": "EUR"},
    ErrorCode.INVALID_TRANSITION: {"status": PaymentStatus.COMPLETED, "nextStatuses": []},
    ErrorCode.VALIDATION_ERROR: {
        "fields": [{"field": "limit", "message": "Input should be less than or equal to 100"}]
    },
}

# Values for the placeholders in the messages of errors.
_EXAMPLE_VALUES = {
    "amount": "12.50",
    "currency": "EUR",
    "fields": "amount",
    "limit": "100",
    "mib": "1",
    "participle": "cancelled",
    "reason": "it is completed",
    "role": Role.VENDOR,
    "seconds": "60",
    "state": "waiting",
    "subject": "A completed payment",
    "target": PaymentStatus.COMPLETED,
    "thing": "payment",
    "token": "access",
    "version": "2",
    "what": "is not valid JSON",
}


@dataclass(frozen=True)
class ErrorCase:
    """One error that an operation can respond with: an example of a response."""

    name: str
    code: ErrorCode
    message: str

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return STATUS_BY_CODE[self.code]

    @property
    def example(self) -> dict[str, Any]:
        """The case as an OpenAPI example."""
        details = _EXAMPLE_DETAILS.get(self.code, {})
        error = {"code": self.code, "message": self.message, "details": details}
        return {"summary": self.message, "value": {"success": False, "error": error}}


Cases = tuple[ErrorCase, ...]

_METHOD_NOT_ALLOWED, *_ANY_REQUEST = (
    ErrorCase(code.title().replace("_", ""), code, MESSAGES[code])
    for code in (
        ErrorCode.METHOD_NOT_ALLOWED,
        ErrorCode.REQUEST_TIMEOUT,
        ErrorCode.INTERNAL_ERROR,
        ErrorCode.SERVICE_UNAVAILABLE,
    )
)


def cases_by_status(operation: Operation | RawOperation, *, has_id: bool) -> dict[int, Cases]:
    """Returns the errors of an operation by status, in ascending order.

    `has_id` says that the operation's path has a parameter, so that the resource may not exist.
    """
    declared = operation.errors
    cases = [_METHOD_NOT_ALLOWED]
    if isinstance(operation, Operation):
        declared += tuple(_implied(operation, has_id=has_id))
        cases += _ANY_REQUEST
    cases = [*map(_case, dict.fromkeys(declared)), *cases]
    by_status = groupby(sorted(cases, key=lambda case: case.status), key=lambda case: case.status)
    return {status: tuple(group) for status, group in by_status}


def _implied(operation: Operation, *, has_id: bool) -> Iterable[type[DomainError]]:
    """Yields the errors of the middleware, and of reading the request."""
    yield from (RateLimited, body.LengthRequired, body.PayloadTooLarge, body.ValidationFailed)
    # An operation without a body also refuses one that is malformed or not empty.
    yield from (body.NotAForm,) if operation.file else (body.MalformedJson, body.UnsupportedMediaType)
    if operation.permission is not Permission.ANYONE:
        yield Unauthorized
    if ROLES_BY_PERMISSION[operation.permission] != frozenset(Role):
        yield Forbidden
    if operation.if_match:
        yield etag.VersionMismatch
    if has_id:
        yield NotFound


def _case(error: type[DomainError]) -> ErrorCase:
    message = (error.__doc__ or "").strip().format(**_EXAMPLE_VALUES)
    return ErrorCase(error.__name__, error.code, message)


def error_responses(
    operations: Mapping[str, Mapping[int, Cases]], schema: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Returns `components/responses`, and for each operationId the references to them by status.

    For each status, the response that most operations share is named by the status (`Conflict`). Others
    belong to one operation, and are named by both (`CreatePaymentConflict`). `operations` are the cases by
    operationId.
    """
    counted = Counter(item for by_status in operations.values() for item in by_status.items())
    # The most frequent cases of a status are written last, and so replace the others.
    shared = {status: cases for (status, cases), count in reversed(counted.most_common()) if count > 1}
    components: dict[str, Any] = {}
    references: dict[str, dict[str, Any]] = {}
    for id, by_status in operations.items():
        references[id] = {}
        for status, cases in by_status.items():
            # Not from `http.HTTPStatus`, whose phrases depend on the version of Python.
            name = falcon.code_to_http_status(status).partition(" ")[2].title().replace(" ", "")
            if cases != shared.get(status):
                name = f"{id[0].upper()}{id[1:]}{name}"
            components[name] = _response(status, cases, schema)
            references[id][str(status)] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(components.items())), references


def _response(status: int, cases: Cases, schema: dict[str, Any]) -> dict[str, Any]:
    examples = {case.name: case.example for case in cases}
    return {
        "description": " ".join(dict.fromkeys(case.message for case in cases)),
        "headers": headers.of_error(status),
        "content": {"application/json": {"schema": schema, "examples": examples}},
        # Not in the schema: generators drop a schema that narrows `ErrorResponse` for each response, or make
        # hundreds of classes.
        "x-codes": list(dict.fromkeys(case.code for case in cases)),
    }


def error_code_schema() -> dict[str, Any]:
    """Returns the schema `ErrorCode`: the closed list of codes, each with its status and its meaning."""
    lines = [f"* `{code}` ({STATUS_BY_CODE[code]}): {text}" for code, text in MEANING_BY_CODE.items()]
    return {
        "title": "ErrorCode",
        "type": "string",
        "enum": list(MEANING_BY_CODE),
        "description": "\n".join(["Why a request was refused.", "", *lines]),
        "x-enumDescriptions": dict(MEANING_BY_CODE),
    }
