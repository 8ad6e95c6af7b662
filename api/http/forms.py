"""Reading a multipart form that holds one file."""

from falcon import MultipartParseError, Request, parse_header
from falcon.media.multipart import MultipartForm, MultipartParseOptions

from api.http.errors import ValidationFailed
from db.core.errors import DomainError, ErrorCode

_OPTIONS = MultipartParseOptions()
# In characters (RFC 2046, 5.1.1).
_MAX_BOUNDARY = 70


class NotAForm(DomainError):
    """The body must be a form, sent as `Content-Type: multipart/form-data`."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


def read_file(req: Request, field: str) -> bytes:
    """The content of the form's only field. Raises NotAForm or ValidationFailed.

    The form is read to its end although the file comes first: a form that was cut off is refused.
    """
    media_type, parameters = parse_header(req.content_type or "")
    encoded = (req.get_header("Content-Encoding") or "identity").lower() != "identity"
    if media_type.lower() != "multipart/form-data" or encoded:
        raise NotAForm
    boundary = parameters.get("boundary", "").rstrip()
    if not 1 <= len(boundary) <= _MAX_BOUNDARY:
        raise ValidationFailed.of("body", f"must have a boundary of 1 to {_MAX_BOUNDARY} characters")
    form = MultipartForm(req.bounded_stream, boundary.encode(), req.content_length or 0, _OPTIONS)
    contents: list[bytes] = []
    try:
        for part in form:
            if part.name != field or contents:
                raise ValidationFailed.of("body", f"must have one field, {field}, and no other")
            contents.append(part.stream.read())
    except (MultipartParseError, UnicodeError, OSError):
        raise ValidationFailed.of("body", "is not a complete multipart form") from None
    if not contents or not contents[0]:
        raise ValidationFailed.of(field, "is required")
    return contents[0]
