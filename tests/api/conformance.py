"""A test client that checks every response against the OpenAPI document."""

import re
from functools import cached_property
from typing import Any

import jsonschema_rs
from falcon.testing import Result, TestClient

ERROR_RESPONSE = {"$ref": "#/components/schemas/ErrorResponse"}


class Document:
    """The OpenAPI document as a validator of responses."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._validators: dict[int, jsonschema_rs.Draft202012Validator] = {}

    def check(self, method: str, path: str, result: Result) -> None:
        """Raises AssertionError for a status, media type, header or body that is not documented."""
        operation = self._operation(method, path)
        if operation is None:
            is_page = result.headers.get("Content-Type", "").startswith("text/html")
            if result.status_code >= 400 and method != "HEAD" and not is_page:
                self._validate(ERROR_RESPONSE, result.json)
            return
        where = f"{method} {path}: {result.status_code} {result.content.decode(errors='replace')}"
        assert str(result.status_code) in operation["responses"], f"{where}: the status is not documented"
        response = self._resolve(operation["responses"][str(result.status_code)])
        for name, header in response["headers"].items():
            if self._resolve(header).get("required"):
                assert name in result.headers, f"{where}: has no {name}"
        content = response.get("content")
        if content is None:
            assert result.content == b"", where
            return
        media = result.headers["Content-Type"].partition(";")[0]
        assert media in content, f"{where}: {media} is not documented"
        if media == "application/json":
            self._validate(content[media]["schema"], result.json)
            if result.status_code >= 400 and "x-codes" in response:
                assert result.json["error"]["code"] in response["x-codes"], (
                    f"{where}: the code is not documented"
                )

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        address = path.partition("?")[0]
        for pattern, methods in self._paths.items():
            if pattern.fullmatch(address):
                found: dict[str, Any] | None = methods.get(method.lower())
                return found
        return None

    @cached_property
    def _paths(self) -> dict[re.Pattern[str], dict[str, Any]]:
        return {
            re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))): methods
            for path, methods in self._document["paths"].items()
        }

    def _resolve(self, value: dict[str, Any]) -> dict[str, Any]:
        found: Any = value
        if "$ref" in value:
            found = self._document
            for key in value["$ref"].removeprefix("#/").split("/"):
                found = found[key]
        return dict(found)

    def _validate(self, schema: dict[str, Any], value: Any) -> None:
        validator = self._validators.get(id(schema))
        if validator is None:
            whole = {**schema, "components": self._document["components"]}
            validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
            self._validators[id(schema)] = validator
        errors = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]
        assert not errors, f"{value}: {errors}"


class ConformingClient(TestClient):
    """A test client that fails on a response that is not documented."""

    def __init__(self, app: Any, document: Document) -> None:
        super().__init__(app)
        self._document = document

    def simulate_request(self, method: str = "GET", path: str = "/", **more: Any) -> Result:
        result: Result = super().simulate_request(method, path, **more)
        self._document.check(method, path, result)
        return result
