"""Gate 5: how large and of what kind a body may be; and the reading of it against a shape."""

import codecs
import json
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar, cast

from falcon import Request, Response, parse_header
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.http import json_limits
from api.http.fields import OneOfBodies, Query, RequestBody
from db.core.errors import DomainError, ErrorCode

# How many faults one answer names, and how much of a field's name.
_FAULTS, _NAME = 50, 100

MIB = 1024 * 1024
LARGEST = 1 * MIB
# The paths to which more may be posted, with how many bytes.
LARGER = {"/api/profile/avatar": 5 * MIB}

# JSON may spell a NUL, which no text column takes: `\u0000` with an even number of backslashes before it.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

S = TypeVar("S", bound=RequestBody | OneOfBodies[Any])
Q = TypeVar("Q", bound=Query)


class PayloadTooLarge(DomainError):
    """The body is larger than {limit} MiB."""

    code = ErrorCode.PAYLOAD_TOO_LARGE


class LengthRequired(DomainError):
    """The request must say how long its body is; a chunked one is not taken."""

    code = ErrorCode.LENGTH_REQUIRED


class UnsupportedMediaType(DomainError):
    """The body must be JSON in UTF-8, and the Content-Type must say so."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class MalformedJson(DomainError):
    """The body {what}."""

    code = ErrorCode.MALFORMED_JSON


class ValidationFailed(DomainError):
    """The request is not valid."""

    code = ErrorCode.VALIDATION_ERROR


def largest(method: str, path: str) -> int:
    """How many bytes the body of such a request may have."""
    return LARGER.get(path, LARGEST) if method == "POST" else LARGEST


class Body:
    """Refuses a body by its headers, before a byte of it is in memory."""

    def process_request(self, req: Request, _resp: Response) -> None:
        """Looks at the length."""
        if req.get_header("Transfer-Encoding"):
            raise LengthRequired
        limit = largest(req.method, req.path)
        if (req.content_length or 0) > limit:
            raise PayloadTooLarge(limit=limit // MIB)

    def process_resource(self, req: Request, _resp: Response, _resource: Any, _params: Any) -> None:
        """Reads it, unless it is one of the large ones, which is read by its operation."""
        larger = req.method == "POST" and req.path in LARGER
        req.context.raw = b"" if larger else _all_of(req)


def read_body(req: Request, shape: type[S]) -> S:
    """The body as a shape. Raises Malformed, WrongMediaType or Invalid, which lists every fault at once."""
    # A byte order mark is no part of the text (RFC 8259, 8.1); editors on Windows put one there.
    raw = req.context.raw.removeprefix(codecs.BOM_UTF8)
    if raw:
        _of_json(req)
    elif shape.needed or any(field.is_required() for field in shape.model_fields.values()):
        raise MalformedJson(what="is empty")
    else:
        raw = b"{}"
    _not_too_much(raw, shape)
    try:
        # Only to look at: the shape reads the text itself, which knows more than these values.
        value = json.loads(raw, parse_float=_exactly, parse_constant=_no_number, object_pairs_hook=_once)
    except ValueError:
        raise MalformedJson(what="is not valid JSON, or names a field twice") from None
    if not isinstance(value, dict):
        raise MalformedJson(what="must be a JSON object")
    if _NUL.search(raw):
        raise MalformedJson(what="must not contain NUL characters")
    rounded = [name for name, part in value.items() if _holds_rounded(part)]
    try:
        valid = cast(S, shape.model_validate_json(raw))
    except ValidationError as error:
        if error.error_count() == 1 and _faults(error)[0]["type"] == "json_invalid":
            # Half a surrogate pair, which Python's reader lets pass.
            raise MalformedJson(what="is not valid JSON") from None
        raise _invalid(error, rounded, prefixed=issubclass(shape, OneOfBodies)) from None
    if rounded:
        raise ValidationFailed({"fields": [_rounded(name) for name in rounded]})
    return valid


def _not_too_much(raw: bytes, shape: type[S]) -> None:
    sized, kib = shape.sized or (None, 0)
    members, values = shape.most_members, shape.most_values
    try:
        # A value takes two bytes at least.
        part = json_limits.exceeded(
            raw, members=members, values=values, apart=sized, apart_values=kib * 1024 // 2
        )
    except json_limits.TooDeep:
        raise MalformedJson(what="is nested too deeply") from None
    if part:
        message = f"must not have more than {members} fields, or {values} values in all"
        if part == sized:
            message = f"must not be larger than {kib} KiB"
        raise ValidationFailed({"fields": [{"field": part, "message": message}]})


def _all_of(req: Request) -> bytes:
    try:
        raw: bytes = req.bounded_stream.read()
    except OSError:
        raise MalformedJson(what="was cut off") from None
    if len(raw) < (req.content_length or 0):
        # A client that died in the middle meant more than it said: nothing of it is done.
        raise MalformedJson(what="is shorter than its Content-Length")
    return raw


class _Rounded(float):
    """A number that was written with more digits than a float holds."""


def _exactly(text: str) -> float:
    number = float(text)
    try:
        exact = Decimal(repr(number)) == Decimal(text)
    except InvalidOperation:
        # An exponent of more digits than a Decimal takes.
        exact = False
    return number if exact else _Rounded(number)


def _holds_rounded(value: Any) -> bool:
    """Whether there is a rounded number anywhere in a value of a body. Its depth is bounded by the reader."""
    if isinstance(value, dict):
        return any(map(_holds_rounded, value.values()))
    if isinstance(value, list):
        return any(map(_holds_rounded, value))
    return isinstance(value, _Rounded)


def _rounded(name: str) -> dict[str, str]:
    return {"field": name[:_NAME], "message": "holds a number with more digits than can be kept"}


def _no_number(_name: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Readers of JSON disagree about which one counts.
        raise ValueError("a field is named twice")
    return found


def read_query(req: Request, shape: type[Q]) -> Q:
    """The query string as a shape. Raises Invalid."""
    # Which no text column takes.
    nul = [name for name, value in req.params.items() if "\0" in f"{name}{value}"]
    if nul:
        message = "must not contain NUL characters"
        raise ValidationFailed(
            {"fields": [{"field": name.replace("\0", "")[:_NAME], "message": message} for name in nul]}
        )
    # A form sends the fields that nobody filled in, too: what is blank is not asked for.
    asked = {name: value for name, value in req.params.items() if value != ""}
    try:
        return shape.model_validate(asked)
    except ValidationError as error:
        raise _invalid(error) from None


def _of_json(req: Request) -> None:
    media_type, parameters = parse_header(req.content_type or "")
    charset = parameters.get("charset", "utf-8").lower()
    encoded = (req.get_header("Content-Encoding") or "identity").lower() != "identity"
    if media_type.lower() != "application/json" or charset not in ("utf-8", "utf8") or encoded:
        raise UnsupportedMediaType


def _invalid(
    error: ValidationError, rounded: Sequence[str] = (), *, prefixed: bool = False
) -> ValidationFailed:
    faults = _faults(error)[:_FAULTS]
    # Where a body has one of several shapes, the place begins with the name of the shape.
    places = [_place(fault["loc"][1:] if prefixed else fault["loc"]) for fault in faults]
    fields = [{"field": place, "message": _why(fault)} for place, fault in zip(places, faults, strict=True)]
    fields += [_rounded(name) for name in rounded if name not in places]
    return ValidationFailed({"fields": fields[:_FAULTS]})


def _faults(error: ValidationError) -> list[ErrorDetails]:
    # Only where and why: what was sent may be a password, and there may be a great deal of it. All are built
    # before any is taken, so how many there can be is limited by the number of values.
    return error.errors(include_url=False, include_context=False, include_input=False)


def _place(location: tuple[int | str, ...]) -> str:
    # What is wrong with the whole has no name of its own.
    return ".".join(map(str, location))[:_NAME] or "body"


def _why(fault: ErrorDetails) -> str:
    if fault["type"] == "too_long":
        # A text that was cleaned first is "a value of so many items" to pydantic.
        return fault["msg"].replace("items after validation", "characters")
    # pydantic quotes the character that it stumbled over.
    return "must be a UUID" if fault["type"].startswith("uuid") else fault["msg"]
