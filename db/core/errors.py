"""A refusal: a sentence, a code and a status; declared where it is refused, spoken at the door."""

from enum import StrEnum
from typing import Any, ClassVar


class ErrorCode(StrEnum):
    """The closed list of error codes."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    MALFORMED_JSON = "MALFORMED_JSON"
    UNAUTHORIZED = "UNAUTHORIZED"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    TOKEN_REUSED = "TOKEN_REUSED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    EMAIL_TAKEN = "EMAIL_TAKEN"
    INVALID_TRANSITION = "INVALID_TRANSITION"
    REQUEST_NOT_PAYABLE = "REQUEST_NOT_PAYABLE"
    REQUEST_CHANGED = "REQUEST_CHANGED"
    IDEMPOTENCY_IN_PROGRESS = "IDEMPOTENCY_IN_PROGRESS"
    LAST_ADMIN = "LAST_ADMIN"
    LENGTH_REQUIRED = "LENGTH_REQUIRED"
    VERSION_MISMATCH = "VERSION_MISMATCH"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    IDEMPOTENCY_MISMATCH = "IDEMPOTENCY_MISMATCH"
    RATE_LIMITED = "RATE_LIMITED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"

    @property
    def status(self) -> int:
        """The one HTTP status that goes with this code."""
        return _STATUS[self]


_STATUS = {
    ErrorCode.VALIDATION_ERROR: 400,
    ErrorCode.MALFORMED_JSON: 400,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.INVALID_CREDENTIALS: 401,
    ErrorCode.TOKEN_REUSED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.REQUEST_TIMEOUT: 408,
    ErrorCode.EMAIL_TAKEN: 409,
    ErrorCode.INVALID_TRANSITION: 409,
    ErrorCode.REQUEST_NOT_PAYABLE: 409,
    ErrorCode.REQUEST_CHANGED: 409,
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: 409,
    ErrorCode.LAST_ADMIN: 409,
    ErrorCode.LENGTH_REQUIRED: 411,
    ErrorCode.VERSION_MISMATCH: 412,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.IDEMPOTENCY_MISMATCH: 422,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.SERVICE_UNAVAILABLE: 503,
}


class DomainError(Exception):
    """Something the caller can be told. A subclass's docstring is the sentence; `{name}` is filled in."""

    code: ClassVar[ErrorCode]
    # In seconds: when it may be worth another try.
    retry_after: int | None = None

    def __init__(self, details: dict[str, Any] | None = None, /, **words: object) -> None:
        self.message = (type(self).__doc__ or "").strip().format(**words)
        self.details = details or {}
        super().__init__(self.message)


class NotFound(DomainError):
    """There is no such {thing}."""

    code = ErrorCode.NOT_FOUND
