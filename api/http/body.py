"""Reading a request: its JSON body or query string into a model, or its file, with every error at once."""

import codecs
import json
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Self, TypeVar, cast

from falcon import MultipartParseError, Request, parse_header
from falcon.media.multipart import MultipartForm, MultipartParseOptions
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.http import json_limits
from api.http.fields import OneOfBodies, Query, RequestBody
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
        """The error of one field: `ValidationFailed.of("to", "must be later than `from`")`."""
        return cls({"fields": [{"field": field, "message": message}]})


# Limits of one error response: how many errors, and how many characters of a field's name.
MAX_ERRORS, MAX_FIELD_NAME = 50, 100

# A float has at most 24 characters. More than these are digits that it does not keep, or zeros.
_MAX_FLOAT_CHARACTERS = 64

BodyT = TypeVar("BodyT", bound=RequestBody | OneOfBodies[Any])
QueryT = TypeVar("QueryT", bound=Query)


def read_body(req: Request, model: type[BodyT]) -> BodyT:
    """The body as a model. Raises MalformedJson, UnsupportedMediaType or ValidationFailed."""
    # RFC 8259, 8.1 allows a parser to ignore a byte order mark; editors on Windows write one.
    text = req.context.raw.removeprefix(codecs.BOM_UTF8)
    if text:
        _require_json(req)
    elif model.body_required or any(field.is_required() for field in model.model_fields.values()):
        raise MalformedJson(what="is empty")
    else:
        text = b"{}"
    _require_limits(text, model)
    imprecise = _check(text)
    try:
        body = cast(BodyT, model.model_validate_json(text))
    except ValidationError as error:
        if error.error_count() == 1 and _errors(error)[0]["type"] == "json_invalid":
            # A lone surrogate, which `json` accepts.
            raise MalformedJson(what="is not valid JSON") from None
        raise _validation_failed(error, imprecise, skip_tag=issubclass(model, OneOfBodies)) from None
    if imprecise:
        raise ValidationFailed({"fields": [_imprecise(name) for name in imprecise]})
    return body


def _require_json(req: Request) -> None:
    media_type, parameters = parse_header(req.content_type or "")
    charset = parameters.get("charset", "utf-8").lower()
    encoded = (req.get_header("Content-Encoding") or "identity").lower() != "identity"
    if media_type.lower() != "application/json" or charset not in ("utf-8", "utf8") or encoded:
        raise UnsupportedMediaType


def _require_limits(text: bytes, model: type[BodyT]) -> None:
    name, kib = model.sized_member or (None, 0)
    try:
        # A value takes at least two bytes of the text.
        part = json_limits.exceeded(
            text,
            members=model.max_members,
            values=model.max_values,
            sized_member=name,
            sized_values=kib * 1024 // 2,
        )
    except json_limits.TooDeep:
        raise MalformedJson(what="is nested too deeply") from None
    if part == "body":
        message = f"must not have more than {model.max_members} fields, or {model.max_values} values in all"
        raise ValidationFailed.of(part, message)
    if part:
        raise ValidationFailed.of(part, f"must not be larger than {kib} KiB")


def _check(text: bytes) -> list[str]:
    """The top members that hold a number with more digits than a float keeps.

    Pydantic's JSON parser is the one that knows the model, and it rounds such a number, takes the last of two
    members with one name, and accepts NUL: the text is parsed here first. Raises MalformedJson.
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


class _Imprecise(float):
    """A number that was written with more digits than a float keeps."""


def _exact_float(text: str) -> float:
    if len(text) > _MAX_FLOAT_CHARACTERS:
        # To read a megabyte of these takes longer than all else.
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
    # The recursion is bounded: `json_limits` limits the depth.
    if isinstance(value, dict):
        return any(map(_holds_imprecise, value.values()))
    if isinstance(value, list):
        return any(map(_holds_imprecise, value))
    return isinstance(value, _Imprecise)


def _imprecise(name: str) -> dict[str, str]:
    return {"field": name[:MAX_FIELD_NAME], "message": "holds a number with more digits than can be kept"}


def read_query(req: Request, model: type[QueryT]) -> QueryT:
    """The query string as a model. Raises ValidationFailed."""
    # PostgreSQL stores no NUL.
    nul = [name for name, value in req.params.items() if "\0" in f"{name}{value}"]
    if nul:
        names = [name.replace("\0", "")[:MAX_FIELD_NAME] for name in nul]
        message = "must not contain NUL characters"
        raise ValidationFailed({"fields": [{"field": name, "message": message} for name in names]})
    # An HTML form also sends its empty fields: an empty parameter counts as left out.
    given = {name: value for name, value in req.params.items() if value != ""}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _validation_failed(error) from None


def _validation_failed(
    error: ValidationError, imprecise: Sequence[str] = (), *, skip_tag: bool = False
) -> ValidationFailed:
    """`skip_tag`: the location of each error begins with the name of the shape that `OneOfBodies` chose."""
    errors = _errors(error)[:MAX_ERRORS]
    names = [_field_name(part["loc"][1:] if skip_tag else part["loc"]) for part in errors]
    fields = [{"field": name, "message": _message(part)} for name, part in zip(names, errors, strict=True)]
    fields += [_imprecise(name) for name in imprecise if name not in names]
    return ValidationFailed({"fields": fields[:MAX_ERRORS]})


def _errors(error: ValidationError) -> list[ErrorDetails]:
    # Without the input, which may be a password. Pydantic builds the whole list before it can be cut: the
    # limit on the number of values bounds it.
    return error.errors(include_url=False, include_context=False, include_input=False)


def _field_name(location: tuple[int | str, ...]) -> str:
    # An error of the whole body has an empty location.
    return ".".join(map(str, location))[:MAX_FIELD_NAME] or "body"


def _message(error: ErrorDetails) -> str:
    if error["type"] == "too_long":
        # After a validator in Python, pydantic counts "items" of a text.
        return error["msg"].replace("items after validation", "characters")
    # For a UUID, pydantic's message quotes the input.
    return "must be a UUID" if error["type"].startswith("uuid") else error["msg"]


_OPTIONS = MultipartParseOptions()
# In characters (RFC 2046, 5.1.1).
_MAX_BOUNDARY = 70


class NotAForm(DomainError, code=ErrorCode.UNSUPPORTED_MEDIA_TYPE):
    """The body must be a form, sent as `Content-Type: multipart/form-data`."""


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
