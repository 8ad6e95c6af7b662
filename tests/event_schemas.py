"""Checks events against the AsyncAPI document."""

from functools import cache
from typing import Any

import jsonschema_rs

from actors.events import EventType
from actors.snapshots import EVENT_DATA
from api.openapi.asyncapi import document

_DOCUMENT = document()
MESSAGES = {message["name"]: message for message in _DOCUMENT["components"]["messages"].values()}


def check_message(message: dict[str, Any]) -> None:
    """Raises AssertionError for a message that is not as the document says."""
    _check(MESSAGES[EventType(message["type"])]["payload"]["$ref"], message)


def check_data(type: EventType, data: dict[str, Any]) -> None:
    """The same for the data of an event that has no number yet."""
    _check(f"#/components/schemas/{EVENT_DATA[type].data.__name__}", data)


def _check(ref: str, value: dict[str, Any]) -> None:
    errors = [f"{error.instance_path}: {error.message}" for error in _validator(ref).iter_errors(value)]
    assert not errors, f"{value}: {errors}"


@cache
def _validator(ref: str) -> jsonschema_rs.Draft7Validator:
    """AsyncAPI's schemas are those of draft 7."""
    whole = {"allOf": [{"$ref": ref}], "components": _DOCUMENT["components"]}
    return jsonschema_rs.Draft7Validator(whole, validate_formats=True)
