"""What all responses share: the envelope, and the HTTP status of each error code."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import falcon
import structlog
from falcon import Request, Response
from pydantic import MISSING, BaseModel, Field
from pydantic_core import to_json

from api.security.tokens import UnauthorizedReason
from db import postgres
from db.core.errors import DomainError, ErrorCode
from db.core.json_model import JsonModel
from db.listed_jobs import JobState
from db.states import PaymentStatus

log = structlog.get_logger(__name__)

# The HTTP status of each error code, and what it means to a program.
_CODES = {
    ErrorCode.VALIDATION_ERROR: (400, "The input is not valid. `details.fields` lists every error."),
    ErrorCode.MALFORMED_JSON: (400, "The body is not a JSON object."),
    ErrorCode.UNAUTHORIZED: (401, "The access token is missing or not valid. `details.reason` says why."),
    ErrorCode.INVALID_CREDENTIALS: (401, "The e-mail address or the password is wrong."),
    ErrorCode.TOKEN_REUSED: (401, "The refresh token was used before. Its session has ended."),
    ErrorCode.FORBIDDEN: (403, "Your role does not allow this."),
    ErrorCode.NOT_FOUND: (404, "The resource does not exist, or you may not see it."),
    ErrorCode.METHOD_NOT_ALLOWED: (
        405,
        "The path does not support the method. `Allow` lists those it supports.",
    ),
    ErrorCode.REQUEST_TIMEOUT: (408, "The request was not complete in time. The connection is closed."),
    ErrorCode.EMAIL_TAKEN: (409, "An account with this e-mail address exists."),
    ErrorCode.INVALID_TRANSITION: (
        409,
        "The status of the payment does not allow this. `details` has the status and its successors.",
    ),
    ErrorCode.REQUEST_NOT_PAYABLE: (409, "The payment request cannot be paid now."),
    ErrorCode.REQUEST_CHANGED: (
        409,
        "The payment request has another amount or currency than the one sent. `details` has the current "
        "ones. Nothing was paid.",
    ),
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: (
        409,
        "The first request with this `Idempotency-Key` is still in progress.",
    ),
    ErrorCode.LAST_ADMIN: (
        409,
        "The last active administrator can be neither suspended, closed nor demoted.",
    ),
    ErrorCode.LENGTH_REQUIRED: (411, "The request has no `Content-Length`."),
    ErrorCode.VERSION_MISMATCH: (412, "`If-Match` names another version than the current one."),
    ErrorCode.PAYLOAD_TOO_LARGE: (413, "The body is too large."),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "The media type of the body is not supported here."),
    ErrorCode.IDEMPOTENCY_MISMATCH: (422, "The `Idempotency-Key` was used with another request."),
    ErrorCode.RATE_LIMITED: (429, "Too many requests. Try again after `Retry-After` seconds."),
    ErrorCode.INTERNAL_ERROR: (500, "An internal error occurred."),
    ErrorCode.SERVICE_UNAVAILABLE: (
        503,
        "The service is unavailable, or refuses changes for now. Try again after `Retry-After` seconds.",
    ),
}
STATUS_BY_CODE = {code: status for code, (status, _) in _CODES.items()}
MEANING_BY_CODE = {code: meaning for code, (_, meaning) in _CODES.items()}

# The messages of errors that no DomainError stands for: Falcon raises them (no route, no method, …), or they
# can meet any request.
MESSAGES = {
    ErrorCode.VALIDATION_ERROR: "The request is malformed.",
    ErrorCode.NOT_FOUND: "Nothing exists at this path.",
    ErrorCode.METHOD_NOT_ALLOWED: "This path does not support this method.",
    ErrorCode.REQUEST_TIMEOUT: "The request was not complete in time.",
    ErrorCode.INTERNAL_ERROR: "An internal error occurred.",
    ErrorCode.SERVICE_UNAVAILABLE: "The service is temporarily unavailable. Try again later.",
}
_CODE_BY_FALCON_STATUS = {STATUS_BY_CODE[code]: code for code in MESSAGES}

# The `Allow` of an unknown method at an unknown path.
_ALL_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"


def success(data: BaseModel | Mapping[str, Any] | None, message: str) -> bytes:
    """Returns the JSON of a success. `data` is a response model or a stored JSON object."""
    return to_json({"success": True, "data": data, "message": message})


def failure(code: ErrorCode, message: str = "", details: Mapping[str, Any] | None = None) -> bytes:
    """Returns the JSON of an error. Without a `message`, the one of MESSAGES is used."""
    message = message or MESSAGES[code]
    return to_json({"success": False, "error": {"code": code, "message": message, "details": details or {}}})


def send(resp: Response, body: bytes, *, status: int) -> None:
    """Sends the JSON of a success or an error."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = body


def refuse(
    resp: Response, code: ErrorCode, message: str = "", details: Mapping[str, Any] | None = None
) -> None:
    """Sends an error, with the status of its code."""
    send(resp, failure(code, message, details), status=STATUS_BY_CODE[code])


def install(app: falcon.App) -> None:  # type: ignore[type-arg]
    """Makes the app send every exception as an error in the envelope."""
    app.add_error_handler(Exception, _send_crash)
    for error in postgres.TRANSIENT_ERRORS:
        app.add_error_handler(error, _send_unavailable)
    app.add_error_handler(falcon.HTTPError, _send_falcon_error)
    app.add_error_handler(DomainError, _send_domain_error)


def _send_domain_error(_req: Request, resp: Response, error: DomainError, _params: dict[str, Any]) -> None:
    refuse(resp, error.code, error.message, error.details)
    if error.code is ErrorCode.UNAUTHORIZED:
        resp.set_header("WWW-Authenticate", "Bearer")
    if error.retry_after is not None:
        resp.set_header("Retry-After", str(error.retry_after))


def _send_falcon_error(
    req: Request, resp: Response, error: falcon.HTTPError, _params: dict[str, Any]
) -> None:
    status = error.status_code
    if status == 400 and req.method not in falcon.HTTP_METHODS:
        # Falcon refuses the method WEBSOCKET, which only it knows, with 400 before it looks for the route.
        status = 405
        resp.set_header("Allow", _ALL_METHODS)
    code = _CODE_BY_FALCON_STATUS.get(status)
    if code is None:
        raise error
    if error.headers:
        resp.set_headers(error.headers)
    refuse(resp, code)


def _send_unavailable(req: Request, resp: Response, error: Exception, _params: dict[str, Any]) -> None:
    log.error("the database did not answer", path=req.path, error=str(error))
    resp.set_header("Retry-After", "1")
    refuse(resp, ErrorCode.SERVICE_UNAVAILABLE)


def _send_crash(req: Request, resp: Response, error: Exception, _params: dict[str, Any]) -> None:
    log.error("a request crashed", path=req.path, exc_info=error)
    refuse(resp, ErrorCode.INTERNAL_ERROR)


class FieldError(JsonModel):
    """One error of the input: the field, and what is wrong with it."""

    field: Annotated[str, Field(examples=["amount"])]
    message: Annotated[str, Field(examples=["must be a decimal string or a number"])]


class ErrorDetails(JsonModel, extra="allow"):
    """Details of an error, which depend on its code.

    * `VALIDATION_ERROR` has `fields`.
    * `UNAUTHORIZED` and others have `reason`.
    * `RATE_LIMITED` has `retryAfter`, in seconds.
    * `REQUEST_CHANGED` has the current `amount` and `currency` of the payment request.
    * `INVALID_TRANSITION` has the payment's `status`, and `nextStatuses` that can follow it; or the
      `state` of a job.
    """

    fields: list[FieldError] | MISSING = MISSING
    reason: UnauthorizedReason | Literal["read_only", "email_unverified"] | MISSING = MISSING
    retry_after: Annotated[int, Field(ge=1)] | MISSING = MISSING
    amount: Annotated[str, Field(examples=["12.50"])] | MISSING = MISSING
    currency: Annotated[str, Field(examples=["EUR"])] | MISSING = MISSING
    status: PaymentStatus | MISSING = MISSING
    next_statuses: list[PaymentStatus] | MISSING = MISSING
    state: JobState | MISSING = MISSING


class ErrorBody(JsonModel):
    """The code, a sentence for people, and details for programs."""

    code: ErrorCode
    message: Annotated[str, Field(examples=["There is no such payment."])]
    details: ErrorDetails


class ErrorResponse(JsonModel):
    """The body of every error response."""

    success: Literal[False]
    error: ErrorBody
