"""The errors of a request that cannot be read; the docstring of each class is its message."""

from typing import Self

from db.core.errors import DomainError, ErrorCode


class PayloadTooLarge(DomainError):
    """The body is larger than {mib} MiB."""

    code = ErrorCode.PAYLOAD_TOO_LARGE


class LengthRequired(DomainError):
    """The request must have a Content-Length; a chunked body is not accepted."""

    code = ErrorCode.LENGTH_REQUIRED


class UnsupportedMediaType(DomainError):
    """The body must be JSON in UTF-8, sent as `Content-Type: application/json`."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class MalformedJson(DomainError):
    """The body {what}."""

    code = ErrorCode.MALFORMED_JSON


class ValidationFailed(DomainError):
    """The request is not valid."""

    code = ErrorCode.VALIDATION_ERROR

    @classmethod
    def of(cls, field: str, message: str) -> Self:
        """The error of one field: `ValidationFailed.of("to", "must be later than `from`")`."""
        return cls({"fields": [{"field": field, "message": message}]})
