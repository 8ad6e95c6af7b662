"""The OpenAPI 3.1 document, written from the declarations of the routes."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import falcon
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from api.http.operation import Operation, RawOperation, declaration_of
from api.http.responses import ErrorResponse
from api.openapi import headers
from api.openapi.error_responses import cases_by_status, error_code_schema, error_responses
from api.openapi.schemas import Schema, Schemas
from api.security.permissions import ROLES_BY_PERMISSION, Permission
from db.core import VERSION

_DESCRIPTION = """\
A payments API. A payment is accepted at once and settled in the background, never lost or charged twice.

* Requests and responses are JSON. A success is `{"success": true, "data": …, "message": "…"}`, an error is
  `{"success": false, "error": {"code": "…", "message": "…", "details": {…}}}`; `ErrorCode` lists the codes.
* Unknown fields are refused, and types are strict. `details.fields` lists all errors of the input at once.
* An amount of money is a decimal string with the number of decimals of its currency; requests may also use a
  JSON number. Timestamps are ISO 8601 in UTC, ids are UUIDs.
* Lists are newest first. For the next page, send `nextCursor` as `cursor`.
* `HEAD` is supported wherever `GET` is. A body needs a `Content-Length`; a chunked body is refused with 411.
* Sign in to get an access token (15 minutes), and send it as `Authorization: Bearer …`. After a 401 with
  `details.reason` `token_expired`, get another one from `POST /api/auth/refresh` with the refresh token,
  which is valid for 7 days and can be used once.
"""

TAGS = {
    "auth": "Registration, sign-in, passwords, e-mail verification and the sessions of the signed-in user.",
    "payments": "Payments, payment requests, their history, reports, and what needs a person's attention.",
    "events": "Live events.",
    "admin": "Users, audit log, configuration, events, analytics and health, for administrators.",
    "profile": "Profile, avatar and preferences of the signed-in user.",
    "operations": "Health, metrics, public keys and documents, for operators and programs.",
}

_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
}

_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_EXAMPLE_ID = "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"


@dataclass(frozen=True)
class Route:
    """One method of one path, with its declaration."""

    path: str
    method: str
    tag: str
    operation: Operation | RawOperation
    # The docstring of the responder: its first line is the summary.
    docstring: str

    @property
    def id(self) -> str:
        """The operationId: the declared name, or method and path (`getHealth`, `getApiHealth`)."""
        return self.operation.name or self.method.lower() + self.path.title().replace("/", "")

    @property
    def models(self) -> Iterator[type[BaseModel]]:
        """The models of the response, the body and the query."""
        for name in ("response", "body", "query"):
            if model := getattr(self.operation, name, None):
                yield model


def routes(table: Mapping[str, Any]) -> Iterator[Route]:
    """Yields every method of every path, except HEAD, which is supported wherever GET is."""
    for path, resource in table.items():
        for method in falcon.HTTP_METHODS:
            declaration = declaration_of(resource, method)
            if declaration and method != "HEAD":
                responder = getattr(resource, f"on_{method.lower()}")
                docstring = inspect.getdoc(responder) or ""
                package = responder.__module__.split(".")[1]
                tag = package if package in TAGS else "operations"
                yield Route(path, method, tag, declaration, docstring)


def document(table: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the OpenAPI document of a route table: resources by their path."""
    known = list(routes(table))
    schemas = Schemas([ErrorResponse, *(model for route in known for model in route.models)])
    cases = {route.id: cases_by_status(route.operation, has_id="{" in route.path) for route in known}
    responses, errors = error_responses(cases, schemas.ref(ErrorResponse))
    paths: dict[str, dict[str, Any]] = {}
    for route in known:
        # With camelCase parameters, and without converters.
        path = _PARAMETER.sub(lambda found: f"{{{to_camel(found[1])}}}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas, errors[route.id])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Paywright",
            "version": VERSION,
            "summary": "A payments backend.",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The server of this document."}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY_SCHEMES,
            "parameters": headers.parameters(),
            "headers": headers.headers(),
            "responses": responses,
            "schemas": {**schemas.components(), "ErrorCode": error_code_schema()},
        },
    }


def _operation(route: Route, schemas: Schemas, errors: dict[str, Any]) -> dict[str, Any]:
    operation = route.operation
    summary, _, description = route.docstring.partition("\n")
    written: dict[str, Any] = {
        "operationId": route.id,
        "tags": [route.tag],
        "summary": summary.removesuffix("."),
        **({"description": description.strip()} if description else {}),
        "parameters": [
            *(_path_parameter(name, converter) for name, converter in _PARAMETER.findall(route.path)),
            *headers.of_request(operation, route.method),
        ],
    }
    if isinstance(operation, RawOperation):
        written["security"] = []
        responses = _raw_responses(operation, schemas)
    else:
        if operation.streams:
            written["security"] = [{"bearer": []}, {"ticket": []}]
        if operation.permission is Permission.ANYONE:
            written["security"] = []
        else:
            written["x-roles"] = sorted(ROLES_BY_PERMISSION[operation.permission])
        if operation.query:
            written["parameters"] += _query_parameters(schemas.of(operation.query))
        if operation.body:
            written["requestBody"] = _body(operation, operation.body, schemas)
        elif operation.file:
            written["requestBody"] = _form(operation.file, operation.content_types)
        responses = _responses(operation, schemas)
    if operation.etag and route.method == "GET":
        unchanged = headers.of_success(operation, unchanged=True)
        responses["304"] = {"description": "Not modified.", "headers": unchanged}
    return {**written, "responses": responses | errors}


def _path_parameter(name: str, converter: str) -> Schema:
    schema: Schema = {"type": "string"} | ({"format": "uuid"} if converter == "uuid" else {})
    example = _EXAMPLE_ID if converter == "uuid" else name
    return {"name": to_camel(name), "in": "path", "required": True, "schema": schema, "example": example}


def _query_parameters(model: Schema) -> Iterator[Schema]:
    required = model.get("required", [])
    for name, field in model["properties"].items():
        schema = _without_null(field)
        examples = schema.pop("examples", [])
        yield {
            "name": name,
            "in": "query",
            "required": name in required,
            # An empty parameter counts as left out.
            **({} if name in required else {"allowEmptyValue": True}),
            **({"example": examples[0]} if examples else {}),
            "schema": schema,
        }


def _without_null(field: Schema) -> Schema:
    """Returns a copy of a query field's schema without null, which a query string cannot express."""
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    if not kinds:
        return dict(field)
    rest = {
        key: value for key, value in field.items() if key != "anyOf" and (key, value) != ("default", None)
    }
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _body(operation: Operation, model: Any, schemas: Schemas) -> Schema:
    schema = schemas.ref(model)
    examples = operation.examples or {"body": schemas.example(schema)}
    content = {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
    required = model.body_required or bool(schemas.of(model).get("required"))
    return {"required": required, "content": {"application/json": content}}


def _form(field: str, content_types: tuple[str, ...]) -> Schema:
    schema = {
        "type": "object",
        "required": [field],
        "additionalProperties": False,
        "properties": {field: {"type": "string", "format": "binary"}},
    }
    content = {"schema": schema, "encoding": {field: {"contentType": ", ".join(content_types)}}}
    return {"required": True, "content": {"multipart/form-data": content}}


def _responses(operation: Operation, schemas: Schemas) -> dict[str, Schema]:
    if operation.streams:
        content: Schema = {operation.streams: {"schema": {"type": "string"}}}
        head = headers.of_success(operation)
        return {"200": {"description": operation.message, "headers": head, "content": content}}
    data = schemas.ref(operation.response) if operation.response else {"type": "null"}
    schema = {
        "type": "object",
        "required": ["success", "data", "message"],
        "additionalProperties": False,
        "properties": {"success": {"const": True}, "data": data, "message": {"type": "string"}},
    }
    example = {"success": True, "data": schemas.example(data), "message": operation.message}
    content = {}
    if operation.response or not operation.downloads:
        content["application/json"] = {"schema": schema, "example": example}
    if operation.downloads:
        content[operation.downloads] = {"schema": {"type": "string"}}
    success = {"description": operation.message, "headers": headers.of_success(operation), "content": content}
    # A 202 says that the change is still to come. With `Prefer: wait` it may be complete: a 200.
    statuses = [200, 202] if operation.prefer_wait and operation.status == 202 else [operation.status]
    return {str(status): success for status in statuses}


def _raw_responses(operation: RawOperation, schemas: Schemas) -> dict[str, Schema]:
    content: Schema = {"schema": {"type": "object" if operation.media == falcon.MEDIA_JSON else "string"}}
    if operation.response:
        schema = schemas.ref(operation.response)
        content = {"schema": schema, "example": schemas.example(schema)}
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": headers.of_success(operation),
            "content": {operation.media: content},
        }
        for status in operation.statuses
    }
