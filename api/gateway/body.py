"""Gate 3: how large and of what kind a body may be; and the reading of it against a shape."""

import re
from typing import TypeVar

from falcon import Request, Response
from pydantic import ValidationError
from pydantic_core import from_json

from api.shapes import Query, Shape
from db.fault import Code, Fault

LARGEST = 1024 * 1024

# JSON may spell a NUL, which no text column takes: `\u0000` with an even number of backslashes before it.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

S = TypeVar("S", bound=Shape)
Q = TypeVar("Q", bound=Query)


class TooLarge(Fault):
    """The body is larger than 1 MiB."""

    code = Code.PAYLOAD_TOO_LARGE


class LengthRequired(Fault):
    """The request must say how long its body is; a chunked one is not taken."""

    code = Code.LENGTH_REQUIRED


class WrongMediaType(Fault):
    """The body must be JSON in UTF-8, and the Content-Type must say so."""

    code = Code.UNSUPPORTED_MEDIA_TYPE


class Malformed(Fault):
    """The body {what}."""

    code = Code.MALFORMED_JSON


class Invalid(Fault):
    """The request is not valid."""

    code = Code.VALIDATION_ERROR


class Body:
    """Refuses a body by its headers, before a byte of it is in memory."""

    def process_request(self, req: Request, _resp: Response) -> None:
        """Looks at the length."""
        if req.get_header("Transfer-Encoding"):
            raise LengthRequired
        if (req.content_length or 0) > LARGEST:
            raise TooLarge


def read(req: Request, shape: type[S]) -> S:
    """The body as a shape. Raises Malformed, WrongMediaType or Invalid, which lists every fault at once."""
    raw = req.bounded_stream.read()
    if raw:
        _of_json(req.content_type or "")
    elif any(field.is_required() for field in shape.model_fields.values()):
        raise Malformed(what="is empty")
    else:
        raw = b"{}"
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise Malformed(what="is not valid JSON") from None
    if not isinstance(value, dict):
        raise Malformed(what="must be a JSON object")
    if _NUL.search(raw):
        raise Malformed(what="must not contain NUL characters")
    try:
        return shape.model_validate_json(raw)
    except ValidationError as error:
        raise _invalid(error) from None


def query(req: Request, shape: type[Q]) -> Q:
    """The query string as a shape. Raises Invalid."""
    try:
        return shape.model_validate(req.params)
    except ValidationError as error:
        raise _invalid(error) from None


def _of_json(content_type: str) -> None:
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in parameters if part.startswith("charset=")]
    if media_type != "application/json" or any(charset not in ("utf-8", "utf8") for charset in charsets):
        raise WrongMediaType


def _invalid(error: ValidationError) -> Invalid:
    # Only where and why: what was sent may be a password.
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    fields = [{"field": ".".join(map(str, fault["loc"])), "message": fault["msg"]} for fault in faults]
    return Invalid({"fields": fields})
