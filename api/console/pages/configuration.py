"""The page of the configuration: what each key is, who changed it, and new values for several at once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.console.client import ApiError
from api.console.visits import Visit

_PATH = "/console/configuration"
_READ_ONLY = "maintenance.readOnly"
_PAUSED = "queues.paused"
_SCHEMA = "#/components/schemas/"


@dataclass(frozen=True)
class Control:
    """How the value of a key is entered, by its schema in the OpenAPI document.

    `kind` is `number`, `integer`, `amount` or `choices`. An optional field may be left empty, which is null.
    """

    kind: str
    optional: bool = False
    minimum: Any = None
    maximum: Any = None
    choices: tuple[str, ...] = ()

    def value(self, name: str, form: Mapping[str, str]) -> Any:
        """Returns the value in a form, for the JSON body of the API."""
        if self.kind == "choices":
            return [choice for choice in self.choices if f"{name}.{choice}" in form]
        text = form.get(name, "")
        if not text and self.optional:
            return None
        return text if self.kind == "amount" else number(text)


def number(text: str) -> float | str:
    """Returns the number in a field of a form, or the text as it is, which the API then refuses."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else value


def show(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/configuration."""
    settings = visit.api.get("/admin/config")
    controls = _controls(visit)
    groups: dict[str, list[Any]] = {}
    for setting in settings["items"]:
        if setting["key"] in controls:
            groups.setdefault(setting["key"].partition(".")[0], []).append(setting)
    by = {setting["updatedBy"] for setting in settings["items"]} - {None}
    visit.show(
        "configuration.html",
        settings=settings,
        groups=groups,
        controls=controls,
        maintenance=next(each for each in settings["items"] if each["key"] == _READ_ONLY),
        names={id: visit.api.get(f"/admin/users/{id}")["name"] for id in by},
        # After a 412 the page shows the current values: the form was based on an older version.
        values=visit.form if error and error.status != 412 else None,
        error=error,
    )


def change(visit: Visit) -> None:
    """POST /console/configuration."""
    changes = _changes(visit)
    # The list is replaced as a whole. Without the version that the page showed, this change would undo what
    # others have paused since.
    condition = {"If_Match": visit.form.get("version", '""')} if _PAUSED in changes else {}
    if changes:
        visit.api.put("/admin/config", changes, **condition)
        visit.go(_PATH, f"Saved: {', '.join(changes)}. In effect everywhere within two seconds.")
    else:
        visit.go(_PATH, "Nothing was changed.")


def _changes(visit: Visit) -> dict[str, Any]:
    """Returns the values that differ from what the page showed: others may have changed the rest."""
    if _READ_ONLY in visit.form:
        return {_READ_ONLY: visit.form[_READ_ONLY] == "true"}
    found = {}
    for name, control in _controls(visit).items():
        if f"was.{name}" in visit.form:
            value = control.value(name, visit.form)
            if value != _shown(visit.form[f"was.{name}"]):
                found[name] = value
    return found


def _controls(visit: Visit) -> dict[str, Control]:
    schemas = visit.schemas()
    keys = schemas["ConfigUpdate"]["properties"].items()
    return {name: _control(schema, schemas) for name, schema in keys if name != _READ_ONLY}


def _shown(text: str) -> Any:
    """Returns the value that the page showed, parsed from JSON; None for text that no page sends."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _control(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, optional: bool = False) -> Control:
    """Returns the control for the schema of a key, which may be a reference or allow null."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMA)
        if name == "Amount":
            return Control("amount", optional)
        return _control(schemas[name], schemas, optional=optional)
    if "anyOf" in schema:
        [kind] = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
        return _control(kind, schemas, optional=True)
    if schema["type"] == "array":
        choices = schemas[schema["items"]["$ref"].removeprefix(_SCHEMA)]["enum"]
        return Control("choices", choices=tuple(choices))
    return Control(schema["type"], optional, schema.get("minimum"), schema.get("maximum"))
