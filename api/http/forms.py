"""The reading of a form that brings one file."""

from falcon import MultipartParseError, Request, parse_header
from falcon.media.multipart import MultipartForm, MultipartParseOptions

from api.http.errors import ValidationFailed
from db.core.errors import DomainError, ErrorCode

_OPTIONS = MultipartParseOptions()
_LONGEST_BOUNDARY = 70


class NotAForm(DomainError):
    """The body must be multipart/form-data, and the Content-Type must say so."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


def file(req: Request, field: str) -> bytes:
    """The content of the one field that the form has. Raises NotAForm or Invalid.

    To the end of the form, also when the file is there: a form that was cut off is none.
    """
    media_type, parameters = parse_header(req.content_type or "")
    encoded = (req.get_header("Content-Encoding") or "identity").lower() != "identity"
    if media_type.lower() != "multipart/form-data" or encoded:
        raise NotAForm
    boundary = parameters.get("boundary", "").rstrip()
    if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
        raise _wrong("body", "has no boundary that is one")
    form = MultipartForm(req.bounded_stream, boundary.encode(), req.content_length or 0, _OPTIONS)
    found: list[bytes] = []
    try:
        for part in form:
            if part.name != field or found:
                raise _wrong("body", f"must have one field, {field}, and no other")
            found.append(part.stream.read())
    except (MultipartParseError, UnicodeError, OSError):
        raise _wrong("body", "is no whole multipart form") from None
    if not found or not found[0]:
        raise _wrong(field, "is required")
    return found[0]


def _wrong(field: str, message: str) -> ValidationFailed:
    return ValidationFailed.of(field, message)
