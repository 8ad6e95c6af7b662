"""A refusal: a sentence, a code and a status; declared where it is refused, spoken at the door."""

from enum import StrEnum
from typing import Any, ClassVar


class Code(StrEnum):
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
    Code.VALIDATION_ERROR: 400,
    Code.MALFORMED_JSON: 400,
    Code.UNAUTHORIZED: 401,
    Code.INVALID_CREDENTIALS: 401,
    Code.TOKEN_REUSED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.REQUEST_TIMEOUT: 408,
    Code.EMAIL_TAKEN: 409,
    Code.INVALID_TRANSITION: 409,
    Code.REQUEST_NOT_PAYABLE: 409,
    Code.REQUEST_CHANGED: 409,
    Code.IDEMPOTENCY_IN_PROGRESS: 409,
    Code.LAST_ADMIN: 409,
    Code.LENGTH_REQUIRED: 411,
    Code.VERSION_MISMATCH: 412,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.IDEMPOTENCY_MISMATCH: 422,
    Code.RATE_LIMITED: 429,
    Code.INTERNAL_ERROR: 500,
    Code.SERVICE_UNAVAILABLE: 503,
}


class Fault(Exception):
    """Something the caller can be told. A subclass's docstring is the sentence; `{name}` is filled in."""

    code: ClassVar[Code]
    # In seconds: when it may be worth another try.
    retry_after: int | None = None

    def __init__(self, details: dict[str, Any] | None = None, /, **words: object) -> None:
        self.message = (type(self).__doc__ or "").strip().format(**words)
        self.details = details or {}
        super().__init__(self.message)


class NotFound(Fault):
    """There is no such {thing}."""

    code = Code.NOT_FOUND
