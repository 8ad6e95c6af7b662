"""Domain errors: a message and an error code, declared by the module that raises them."""

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


class DomainError(Exception):
    """An error that is reported to the caller.

    The class line of a subclass has the error code, and `retry_after`: in how many seconds a retry may
    succeed. The docstring of the subclass is the message. Keyword arguments replace each `{name}` in it, and
    the `retry_after` of an instance replaces `{seconds}`.
    """

    code: ClassVar[ErrorCode]
    retry_after: int | None = None

    def __init_subclass__(cls, *, code: ErrorCode | None = None, retry_after: int | None = None) -> None:
        super().__init_subclass__()
        cls.code = code or cls.code
        cls.retry_after = retry_after or cls.retry_after

    def __init__(
        self, details: dict[str, Any] | None = None, /, *, retry_after: int | None = None, **words: object
    ) -> None:
        self.message = (type(self).__doc__ or "").strip().format(seconds=retry_after, **words)
        self.details = details or {}
        if retry_after is not None:
            self.retry_after = self.details["retryAfter"] = retry_after
        super().__init__(self.message)


class NotFound(DomainError, code=ErrorCode.NOT_FOUND):
    """There is no such {thing}."""
