"""The document: OpenAPI 3.1, from the operations of the route table."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import groupby
from typing import Any

import falcon
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from api.http.operation import Operation, RawOperation, declared, raw_operation_of
from api.http.responses import ErrorResponse
from api.openapi import error_responses, headers
from api.openapi.error_responses import Refusal
from api.openapi.schemas import Schema, Schemas
from api.security.permissions import ROLES_BY_PERMISSION, Permission

VERSION = "0.1.0"

_ABOUT = """\
Payments: accepted at once, settled behind the door, never lost and never charged twice.

* JSON in and out. A success is `{"success": true, "data": …, "message": "…"}`, a refusal
  `{"success": false, "error": {"code": "…", "message": "…", "details": {…}}}`; the codes are those of `Code`.
* Unknown fields are refused and types are strict; all faults of the input are told at once, in
  `details.fields`.
* Money is a decimal string with the currency's own number of decimals; a JSON number is taken too. Moments
  are ISO 8601 in UTC, ids UUIDs.
* Lists are newest first; `cursor` takes the `nextCursor` of the page before.
* `HEAD` answers wherever `GET` does. A body must say its length: a chunked one is a 411.
* Sign in for an access token (15 minutes) and send it as `Authorization: Bearer …`. A 401 with
  `details.reason` `token_expired` asks for another: `POST /api/auth/refresh` with the refresh token, which is
  good for 7 days and used once.
"""

_UUID = {"type": "string", "format": "uuid"}
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_SERVICES = ("auth", "payments", "admin", "profile")


@dataclass(frozen=True)
class Route:
    """One method of one address, and what it says of itself."""

    path: str
    method: str
    service: str
    told: Operation | RawOperation

    @property
    def ids(self) -> list[tuple[str, str]]:
        """The path's parameters: their names, and what converts them, if anything does."""
        return _PARAMETER.findall(self.path)

    @property
    def models(self) -> Iterator[type[BaseModel]]:
        """Every model that it mentions."""
        if self.told.response:
            yield self.told.response
        if isinstance(self.told, Operation):
            yield from (model for model in (self.told.body, self.told.query) if model)


def routes(table: Mapping[str, Any]) -> Iterator[Route]:
    """Every method of every address; HEAD goes without saying."""
    for path, resource in table.items():
        place = type(resource).__module__.split(".")[1]
        service = place if place in _SERVICES else "operations"
        for method in falcon.HTTP_METHODS:
            told = declared(resource, method) or raw_operation_of(resource, method)
            if told and method != "HEAD":
                yield Route(path, method, service, told)


def document(table: Mapping[str, Any]) -> dict[str, Any]:
    """The OpenAPI document of a route table."""
    known = list(routes(table))
    schemas = Schemas([ErrorResponse, *(model for route in known for model in route.models)])
    writer = _Writer(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for route in known:
        path = _PARAMETER.sub(lambda found: f"{{{to_camel(found[1])}}}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = writer.operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Paywright",
            "version": VERSION,
            "summary": "A payments backend.",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "Where this document comes from."}],
        "tags": [_tag(service) for service in dict.fromkeys(route.service for route in known)],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "parameters": headers.SENT,
            "headers": headers.CARRIED,
            "responses": dict(sorted(writer.responses.items())),
            "schemas": {**schemas.components(), "ErrorCode": error_responses.codes()},
        },
    }


def _tag(service: str) -> dict[str, str]:
    module = sys.modules.get(f"api.{service}")
    about = (
        module.__doc__ if module else None
    ) or "What operators and programs ask: health, keys, documents."
    return {"name": service, "description": about}


class _Writer:
    """Writes operations, and collects the refusals that they share."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self.responses: dict[str, Any] = {}

    def operation(self, route: Route) -> dict[str, Any]:
        told = route.told
        summary, _, more = told.about.partition("\n")
        written: dict[str, Any] = {
            "operationId": told.name or _name(route),
            "tags": [route.service],
            "summary": summary,
            **({"description": more.strip()} if more.strip() else {}),
            "parameters": [*(_id(*it) for it in route.ids), headers.sent("RequestId")],
        }
        if told.etag and route.method == "GET":
            written["parameters"].append(headers.sent("IfNoneMatch"))
        if isinstance(told, RawOperation):
            answers = self._page(told) | self._refusals(error_responses.of_page(told))
            return {**written, "security": [], "responses": answers}
        if told.permission is Permission.ANYONE:
            written["security"] = []
        else:
            written["x-roles"] = sorted(ROLES_BY_PERMISSION[told.permission])
        if told.idempotent:
            written["parameters"].append(headers.sent("IdempotencyKey"))
        if told.prefer_wait:
            waits_for = "PreferAnother" if route.method == "GET" else "Prefer"
            written["parameters"].append(headers.sent(waits_for))
        if told.if_match:
            written["parameters"].append(headers.sent("IfMatch"))
        if told.query:
            written["parameters"].extend(self._query(told.query))
        if told.body:
            written["requestBody"] = self._body(told)
        elif told.file:
            written["requestBody"] = _form(told.file, told.content_types)
        return {**written, "responses": self._answers(route, told)}

    def _query(self, shape: type[BaseModel]) -> Iterator[dict[str, Any]]:
        schema = self._schemas.of(shape)
        required = schema.get("required", [])
        for name, field in schema["properties"].items():
            schema = _asked(field)
            example = schema.get("examples")
            yield {
                "name": name,
                "in": "query",
                "required": name in required,
                # What is blank is not asked for.
                **({} if name in required else {"allowEmptyValue": True}),
                **({"example": example[0]} if example else {}),
                "schema": {key: value for key, value in schema.items() if key != "examples"},
            }

    def _body(self, told: Operation) -> dict[str, Any]:
        assert told.body is not None
        schema = self._schemas.ref(told.body)
        examples = told.examples or {"body": self._schemas.example(schema)}
        required = told.body.body_required or bool(self._schemas.of(told.body).get("required"))
        content = {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
        return {"required": required, "content": {"application/json": content}}

    def _answers(self, route: Route, told: Operation) -> dict[str, Any]:
        answers: dict[str, Any] = {str(told.status): self._success(told)}
        if told.prefer_wait and told.status == 202:
            # It waited, and is done.
            answers = {"200": answers["202"], **answers}
        if told.etag and route.method == "GET":
            answers["304"] = _unchanged(limited=True, waited=told.prefer_wait)
        return answers | self._refusals(error_responses.of(told, has_id=bool(route.ids)))

    def _refusals(self, told: list[Refusal]) -> dict[str, Any]:
        return {
            str(status): {"$ref": f"#/components/responses/{self._shared(status, list(group))}"}
            for status, group in groupby(told, key=lambda refusal: refusal.code.status)
        }

    def _success(self, told: Operation) -> dict[str, Any]:
        data = self._schemas.ref(told.response) if told.response else {"type": "null"}
        example = self._schemas.example(data) if told.response else None
        schema = {
            "type": "object",
            "required": ["success", "data", "message"],
            "additionalProperties": False,
            "properties": {"success": {"const": True}, "data": data, "message": {"type": "string"}},
        }
        return {
            "description": told.message,
            "headers": headers.of(
                told.status,
                limited=True,
                tagged=told.etag,
                replayed=told.idempotent,
                more=[
                    *(["Preference-Applied"] if told.prefer_wait else []),
                    *(["Content-Disposition"] if told.downloads else []),
                ],
            ),
            "content": {
                "application/json": {
                    "schema": schema,
                    "example": {"success": True, "data": example, "message": told.message},
                },
                **({told.downloads: {"schema": {"type": "string"}}} if told.downloads else {}),
            },
        }

    def _page(self, told: RawOperation) -> dict[str, Any]:
        schema: Schema = {"type": "object" if told.media == "application/json" else "string"}
        content: dict[str, Any] = {"schema": schema}
        if told.response:
            schema = self._schemas.ref(told.response)
            content = {"schema": schema, "example": self._schemas.example(schema)}
        answers = {
            str(status): {
                "description": HTTPStatus(status).phrase,
                "headers": headers.of(status, limited=False, tagged=told.etag),
                "content": {told.media: content},
            }
            for status in told.statuses
        }
        return {**answers, **({"304": _unchanged(limited=False)} if told.etag else {})}

    def _shared(self, status: int, group: list[Refusal]) -> str:
        """The name of the response for these refusals, written once."""
        name = "Or".join(refusal.name for refusal in group)
        enum = list(dict.fromkeys(refusal.code for refusal in group))
        examples = {it.name: {"summary": it.message, "value": _refusal(it)} for it in group}
        self.responses[name] = {
            "description": " ".join(dict.fromkeys(refusal.message for refusal in group)),
            "headers": headers.of(status, limited=True),
            "content": {
                "application/json": {"schema": self._schemas.ref(ErrorResponse), "examples": examples}
            },
            # Beside the schema: one that narrows `Error` for each response is lost on generators, or becomes
            # hundreds of classes.
            "x-codes": enum,
        }
        return name


def _name(route: Route) -> str:
    """`postAuthLogin`: the method and the address, where a route gives itself no better name."""
    path = route.path if isinstance(route.told, RawOperation) else route.path.removeprefix("/api")
    words = re.split(r"[/._-]", _PARAMETER.sub("by-id", path))
    return route.method.lower() + "".join(word.capitalize() for word in words)


def _asked(field: Schema) -> Schema:
    """A field of a query. A query string has no null: what is not asked for is left out."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    if not kinds:
        return field
    rest = {
        key: value for key, value in field.items() if key != "anyOf" and (key, value) != ("default", None)
    }
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _id(name: str, converter: str) -> dict[str, Any]:
    it = {"name": to_camel(name), "in": "path", "required": True}
    if converter != "uuid":
        return {**it, "schema": {"type": "string"}, "example": name}
    return {**it, "schema": _UUID, "example": "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"}


def _form(field: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": [field],
        "additionalProperties": False,
        "properties": {field: {"type": "string", "format": "binary"}},
    }
    content = {"schema": schema, "encoding": {field: {"contentType": ", ".join(kinds)}}}
    return {"required": True, "content": {"multipart/form-data": content}}


def _unchanged(*, limited: bool, waited: bool = False) -> dict[str, Any]:
    more = ["Preference-Applied"] if waited else []
    return {"description": "Unchanged.", "headers": headers.of(304, limited=limited, tagged=True, more=more)}


def _refusal(refusal: Refusal) -> dict[str, Any]:
    error = {"code": refusal.code, "message": refusal.message, "details": refusal.details}
    return {"success": False, "error": error}
