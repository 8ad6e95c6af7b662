"""Reading a request: its JSON body or query string into a model, or its file, with every error at once."""

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Self, TypeVar, cast

from falcon import HTTPInvalidHeader, MultipartParseError, Request, parse_header
from falcon.media import MultipartFormHandler
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.http.fields import BodyLimits, OneOfBodies, Query, RequestBody
from db.core.errors import DomainError, ErrorCode


class PayloadTooLarge(DomainError, code=ErrorCode.PAYLOAD_TOO_LARGE):
    """The body is larger than {mib} MiB."""


class LengthRequired(DomainError, code=ErrorCode.LENGTH_REQUIRED):
    """The request must have a Content-Length; a chunked body is not accepted."""


class UnsupportedMediaType(DomainError, code=ErrorCode.UNSUPPORTED_MEDIA_TYPE):
    """The body must be JSON in UTF-8, sent as `Content-Type: application/json`."""


class MalformedJson(DomainError, code=ErrorCode.MALFORMED_JSON):
    """The body {what}."""


class ValidationFailed(DomainError, code=ErrorCode.VALIDATION_ERROR):
    """The request is not valid."""

    @classmethod
    def of(cls, field: str, message: str) -> Self:
        """Returns the error of one field: `ValidationFailed.of("to", "must be later than `from`")`."""
        return cls.of_all([(field, message)])

    @classmethod
    def of_all(cls, errors: Iterable[tuple[str, str]]) -> Self:
        """Returns the error of several fields, each with its message."""
        fields = [{"field": field[:MAX_FIELD_NAME], "message": message} for field, message in errors]
        return cls({"fields": fields[:MAX_ERRORS]})


# Limits of one error response: how many errors, and how many characters of a field's name.
MAX_ERRORS, MAX_FIELD_NAME = 50, 100

# The tokens of JSON. Every quantifier is possessive and the closing quote may be missing, so each byte is
# read once, also in a text that is not JSON.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[\[\]{},:]|[^\s"\[\]{},:]++', re.DOTALL)
# Bounds every recursion over the values of a body.
MAX_DEPTH = 100
# A member has at most five: name, colon, two brackets, comma.
_TOKENS_PER_VALUE = 5

# A float has at most 24 characters. More than these are digits that it does not keep, or zeros.
_MAX_FLOAT_CHARACTERS = 64

BodyT = TypeVar("BodyT", bound=RequestBody | OneOfBodies[Any])
QueryT = TypeVar("QueryT", bound=Query)


def read_body(req: Request, model: type[BodyT]) -> BodyT:
    """Returns the body as a model. Raises MalformedJson, UnsupportedMediaType or ValidationFailed."""
    # RFC 8259, 8.1 allows a parser to ignore a byte order mark; editors on Windows write one.
    text = req.context.raw.removeprefix(codecs.BOM_UTF8)
    if text:
        _require_json(req)
    elif model.body_required or any(field.is_required() for field in model.model_fields.values()):
        raise MalformedJson(what="is empty")
    else:
        text = b"{}"
    _require_limits(text, model)
    imprecise = [(name, _IMPRECISE) for name in _imprecise_members(text)]
    try:
        body = cast(BodyT, model.model_validate_json(text))
    except ValidationError as error:
        if error.error_count() == 1 and _errors(error)[0]["type"] == "json_invalid":
            # A lone surrogate, which `json` accepts.
            raise MalformedJson(what="is not valid JSON") from None
        raise _validation_failed(error, imprecise, fields_from=int(issubclass(model, OneOfBodies))) from None
    if imprecise:
        raise ValidationFailed.of_all(imprecise)
    return body


def _require_json(req: Request) -> None:
    media_type, parameters = _media_type(req)
    charset = parameters.get("charset", "utf-8").lower()
    if media_type != "application/json" or charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType


def _media_type(req: Request) -> tuple[str, dict[str, str]]:
    """Returns the media type of the body and its parameters. It is empty for a compressed body."""
    media_type, parameters = parse_header(req.content_type or "")
    encoded = (req.get_header("Content-Encoding") or "identity").lower() != "identity"
    return "" if encoded else media_type.lower(), parameters


def _require_limits(text: bytes, limits: type[BodyLimits]) -> None:
    part = exceeded(text, limits)
    if part == "body":
        message = f"must not have more than {limits.max_members} fields, or {limits.max_values} values in all"
        raise ValidationFailed.of(part, message)
    if part and limits.sized_member:
        raise ValidationFailed.of(part, f"must not be larger than {limits.sized_member[1]} KiB")


def exceeded(text: bytes, limits: type[BodyLimits]) -> str | None:
    """Returns what exceeds its limit in a JSON object: `body`, the name of the sized member, or None.

    Counts tokens and builds nothing, and stops at the first limit that is exceeded: a text that is refused
    costs less than one that is read. Raises MalformedJson for a text that is nested too deeply.
    """
    brackets = text.count(b"[") + text.count(b"{")
    if brackets <= MAX_DEPTH and brackets + text.count(b",") < min(limits.max_members, limits.max_values):
        # Each value except the first follows a bracket or a comma.
        return None
    sized_member, kib = limits.sized_member or ("", 0)
    name = f'"{sized_member}"'.encode()
    # A value takes at least two bytes of the text.
    max_sized_values = kib * 1024 // 2
    max_tokens = _TOKENS_PER_VALUE * (limits.max_values + max_sized_values + 1)
    depth = top_members = 0
    # Outside the sized member, and inside.
    counts = [0, 0]
    inside = False
    previous: re.Match[bytes] | None = None
    for number, token in enumerate(_TOKEN.finditer(text)):
        first = text[token.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise MalformedJson(what="is nested too deeply")
            counts[inside] += 1
        elif first in b"]}":
            depth -= 1
        elif first in b",":
            inside = inside and depth > 1
        elif first not in b":":
            counts[inside] += 1
        elif previous and text[previous.start()] in b'"':
            # A colon: the text before it was a name and not a value.
            counts[inside] -= 1
            if depth == 1:
                top_members += 1
                inside = bool(sized_member) and previous[0] == name
        if top_members > limits.max_members or counts[False] > limits.max_values or number > max_tokens:
            return "body"
        if counts[True] > max_sized_values:
            return sized_member
        previous = token
    return None


def _imprecise_members(text: bytes) -> list[str]:
    """Returns the top members that hold a number with more digits than a float keeps. Raises MalformedJson.

    The text is parsed here first because pydantic's parser, which then reads it into the model, rounds such a
    number, takes the last of two members with one name, and accepts NUL.
    """
    try:
        value = json.loads(
            text, parse_float=_exact_float, parse_constant=_refuse_constant, object_pairs_hook=_unique_members
        )
    except ValueError:
        raise MalformedJson(what="is not valid JSON, or names a field twice") from None
    if not isinstance(value, dict):
        raise MalformedJson(what="must be a JSON object")
    # PostgreSQL stores no NUL. JSON spells one as `\u0000` after an even number of backslashes; without their
    # pairs, the two searches take a thirtieth of the time of a regular expression.
    if rb"\u0000" in text.replace(rb"\\", b""):
        raise MalformedJson(what="must not contain NUL characters")
    return [name for name, member in value.items() if _holds_imprecise(member)]


_IMPRECISE = "holds a number with more digits than can be kept"


class _Imprecise(float):
    """A number that was written with more digits than a float keeps."""


def _exact_float(text: str) -> float:
    """Returns the number of a JSON text, as _Imprecise if the text has more digits than a float keeps."""
    if len(text) > _MAX_FLOAT_CHARACTERS:
        # Parsing a megabyte of such numbers would take longer than the rest of the request.
        return _Imprecise()
    number = float(text)
    try:
        exact = Decimal(repr(number)) == Decimal(text)
    except InvalidOperation:
        # The exponent has more digits than a Decimal accepts.
        exact = False
    return number if exact else _Imprecise(number)


def _refuse_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is named twice")
    return members


def _holds_imprecise(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_imprecise, value.values()))
    if isinstance(value, list):
        return any(map(_holds_imprecise, value))
    return isinstance(value, _Imprecise)


def read_query(req: Request, model: type[QueryT]) -> QueryT:
    """Returns the query string as a model. Raises ValidationFailed."""
    # PostgreSQL stores no NUL.
    nul = [name for name, value in req.params.items() if "\0" in f"{name}{value}"]
    if nul:
        message = "must not contain NUL characters"
        raise ValidationFailed.of_all((name.replace("\0", ""), message) for name in nul)
    # An HTML form also sends its empty fields: an empty parameter counts as left out.
    given = {name: value for name, value in req.params.items() if value != ""}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _validation_failed(error) from None


def _validation_failed(
    error: ValidationError, imprecise: Sequence[tuple[str, str]] = (), *, fields_from: int = 0
) -> ValidationFailed:
    """Returns pydantic's errors as ours, and those of `imprecise` whose fields have no other error.

    `fields_from` is the index in an error's location at which the field begins: 1 where the name of one of
    several shapes comes first.
    """
    # An error of the whole body has an empty location.
    errors = [
        (".".join(map(str, part["loc"][fields_from:])) or "body", _message(part)) for part in _errors(error)
    ]
    names = {name for name, _ in errors}
    return ValidationFailed.of_all([*errors, *(one for one in imprecise if one[0] not in names)])


def _errors(error: ValidationError) -> list[ErrorDetails]:
    # Without the input, which may be a password. Pydantic builds the whole list before it can be cut: the
    # limit on the number of values bounds it.
    return error.errors(include_url=False, include_context=False, include_input=False)


def _message(error: ErrorDetails) -> str:
    if error["type"] in ("too_long", "too_short"):
        # Of a text, after a validator in Python: "Value should have at most 255 items after validation".
        part = r"character\1" if error["msg"].startswith("Value") else r"item\1"
        return re.sub("item(s?) after validation", part, error["msg"])
    # For a UUID, pydantic's message quotes the input.
    return "must be a UUID" if error["type"].startswith("uuid") else error["msg"]


_FORMS = MultipartFormHandler()


class NotAForm(DomainError, code=ErrorCode.UNSUPPORTED_MEDIA_TYPE):
    """The body must be a form, sent as `Content-Type: multipart/form-data`."""


def read_file(req: Request, field: str) -> bytes:
    """Returns the content of the form's only field. Raises NotAForm or ValidationFailed.

    The form is read to its end although the file comes first: a form that was cut off is refused.
    """
    if _media_type(req)[0] != "multipart/form-data":
        raise NotAForm
    try:
        form = _FORMS.deserialize(req.bounded_stream, req.content_type, req.content_length or 0)
    except HTTPInvalidHeader:
        raise ValidationFailed.of("body", "must have a boundary of 1 to 70 characters") from None
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
