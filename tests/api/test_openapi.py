"""The OpenAPI document describes every route, and nothing else."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import jsonschema_rs
import pytest
from falcon.testing import TestClient

from api.app import create_app
from api.cli import served_document
from api.http.operation import Operation
from api.http.responses import STATUS_BY_CODE
from api.openapi import resources
from api.security.permissions import Permission
from db.core.errors import ErrorCode
from tests.api.routing import addresses, is_page
from tests.makers import SECRETS

# The committed one, which a test compares with what is served: to make it takes each process that collects the tests
# as long as fifty requests.
DOCUMENT = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text())
OPERATIONS = [
    (operation["operationId"], method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
ROUTES = [
    (address.template.replace(":uuid", ""), method.lower(), declaration)
    for address in addresses()
    for method, declaration in address.methods.items()
    if not is_page(address.template)
    if method != "HEAD"
]

every_route = pytest.mark.parametrize(
    ("template", "method", "declaration"),
    [pytest.param(*route, id=f"{route[1]} {route[0]}") for route in ROUTES],
)
every_operation = pytest.mark.parametrize(
    "operation", [pytest.param(operation, id=name) for name, *_, operation in OPERATIONS]
)


def resolve(value):
    while "$ref" in value:
        found = DOCUMENT
        for key in value["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        value = found
    return value


def errors_of(schema, value) -> list[str]:
    return [error.message for error in validator(json.dumps(schema)).iter_errors(value)]


@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """The validator of one schema, which takes a millisecond to make: most answers refer to the same few."""
    whole = {**json.loads(schema), "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def without_names(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def test_the_document_is_openapi():
    assert DOCUMENT["openapi"].startswith("3.1")
    # Imported here: none of the other processes needs it.
    from openapi_spec_validator import validate  # noqa: PLC0415

    validate(DOCUMENT)


def test_the_committed_document_is_current(root):
    committed = (root / "docs/openapi.json").read_text()
    assert committed == served_document("openapi"), "renew it: make openapi"


@every_route
def test_every_route_is_documented(template, method, declaration):
    found = {without_names(path): methods for path, methods in DOCUMENT["paths"].items()}
    documented = found[without_names(template)][method]
    public = not isinstance(declaration, Operation) or declaration.permission is Permission.ANYONE
    assert (documented.get("security") == []) is public
    if isinstance(declaration, Operation):
        assert {str(declaration.status), "405", "429", "500", "503"} <= set(documented["responses"])
        assert declaration.name, "generated clients use the name"


def test_nothing_else_is_documented():
    routed = {(without_names(template), method) for template, method, _declaration in ROUTES}
    assert {(without_names(path), method) for _id, method, path, _operation in OPERATIONS} == routed


def test_every_operation_has_a_unique_name_with_a_summary():
    names = [name for name, *_ in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]*)*", name) for name in names)
    assert not [one["summary"] for *_, one in OPERATIONS if not re.fullmatch(r"[A-Z].*[^.]", one["summary"])]
    assert all(tag["description"] for tag in DOCUMENT["tags"])


@every_operation
def test_every_parameter_has_a_type(operation):
    for parameter in map(resolve, operation["parameters"]):
        assert parameter["schema"].keys() & {"type", "$ref", "anyOf"}, parameter["name"]


def test_no_two_models_share_a_name():
    assert not [name for name in DOCUMENT["components"]["schemas"] if "__" in name]


def test_the_codes_are_the_closed_list_and_each_is_described():
    codes = DOCUMENT["components"]["schemas"]["ErrorCode"]
    assert codes["enum"] == [code.value for code in ErrorCode]
    assert list(codes["x-enumDescriptions"]) == codes["enum"]
    for code in ErrorCode:
        assert (
            f"* `{code}` ({STATUS_BY_CODE[code]}): {codes['x-enumDescriptions'][code]}"
            in codes["description"]
        )


def test_an_optional_field_of_a_body_has_no_default():
    bodies = [one["requestBody"]["content"] for *_, one in OPERATIONS if "requestBody" in one]
    schemas = [
        resolve(content["application/json"]["schema"]) for content in bodies if "application/json" in content
    ]
    whole = [resolve(kind) for schema in schemas for kind in schema.get("oneOf", [schema])]
    assert len(whole) > len(schemas)
    assert not [field for schema in whole for field in schema["properties"].values() if "default" in field]


def test_no_example_changes_a_demo_user():
    for *_, operation in OPERATIONS:
        if operation["operationId"] in ("register", "createUser", "changePassword"):
            [content] = operation["requestBody"]["content"].values()
            shown = json.dumps(content["examples"])
            assert not re.search(r"(admin|vendor|customer)@example\.com|Paywright-demo-1", shown)


@every_operation
def test_every_example_is_valid(operation):
    contents = [resolve(response).get("content", {}) for response in operation["responses"].values()]
    for content in [*contents, operation.get("requestBody", {}).get("content", {})]:
        for media in content.values():
            examples = [example["value"] for example in media.get("examples", {}).values()]
            for example in [*examples, *([media["example"]] if "example" in media else [])]:
                assert errors_of(media["schema"], example) == []


@every_operation
def test_every_error_response_has_an_example_of_each_code(operation):
    for status, response in operation["responses"].items():
        if int(status) >= 400 and operation["tags"] != ["operations"]:
            content = resolve(response)["content"]["application/json"]
            shown = [example["value"]["error"]["code"] for example in content["examples"].values()]
            assert set(shown) == set(resolve(response)["x-codes"])
            for code, example in zip(shown, content["examples"].values(), strict=True):
                assert str(STATUS_BY_CODE[ErrorCode(code)]) == status
                assert "{" not in example["summary"]


@pytest.mark.parametrize(
    "refusal", ["TransitionRefused", "OutcomeUnknown", "OtherAmountDecided", "StatusNotSettable"]
)
def test_every_refusal_of_a_status_change_has_an_example(refusal):
    [changes] = [operation for name, *_, operation in OPERATIONS if name == "changePaymentStatus"]
    shown = resolve(changes["responses"]["409"])["content"]["application/json"]["examples"]
    assert shown[refusal]["value"]["error"]["code"] == "INVALID_TRANSITION"


@every_route
def test_every_example_of_a_body_is_accepted(template, method, declaration):
    if not isinstance(declaration, Operation) or declaration.body is None:
        return
    [documented] = [
        one
        for _, its_method, path, one in OPERATIONS
        if (its_method, without_names(path)) == (method, without_names(template))
    ]
    for example in documented["requestBody"]["content"]["application/json"]["examples"].values():
        declaration.body.model_validate_json(json.dumps(example["value"]))


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("12.50", True), ("0.01", True), ("500", True), (12.5, True), (500, True), (99999999.99, True),
        ("0012.50", False), ("abc", False), ("1.234", False), ("-1", False), ("1e3", False), (0, False), (-1, False), (1e9, False),
        (True, False), (None, False), ([], False),
    ],
)  # fmt: skip
def test_the_schema_of_an_amount_accepts_what_the_api_accepts(value, valid):
    assert (errors_of({"$ref": "#/components/schemas/Amount"}, value) == []) is valid


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({"type": "payment", "amount": 1}, True),
        ({"type": "payment", "amount": 1, "currency": None}, True),
        ({"type": "initiate", "amount": 1, "customerEmail": "a@b.example"}, True),
        ({"type": "payment", "requestId": "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"}, True),
        ({"type": "payment"}, False),
        ({"type": "payment", "amount": None}, False),
        ({"type": "payment", "amount": 1, "customerEmail": "a@b.example"}, False),
        ({"type": "payment", "amount": 1, "requestId": "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"}, True),
        ({"type": "payment", "amount": True, "requestId": "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"}, False),
        ({"type": "payment", "amount": 1, "requestId": None, "customerEmail": None}, True),
        ({"type": "payment", "amount": {"cents": 5}}, False),
        ({"amount": 1}, False),
        ({"type": "initiate", "requestId": "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"}, False),
        ({"type": "payment", "amount": 1, "colour": "red"}, False),
    ],
)
def test_the_schema_of_a_new_payment_accepts_what_the_api_accepts(body, valid):
    assert (errors_of({"$ref": "#/components/schemas/NewPayment"}, body) == []) is valid


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/api/openapi.json", "application/json"),
        ("/api/docs", "text/html; charset=utf-8"),
        ("/api/docs/script.js", "text/javascript; charset=utf-8"),
    ],
)
def test_the_document_is_public_with_an_etag(client, path, media):
    first = client.simulate_get(path)
    assert (first.status_code, first.headers["Content-Type"]) == (200, media)
    assert first.headers["Cache-Control"] == "public, no-cache"
    again = client.simulate_get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.simulate_get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_document_is_written_once(settings, database, monkeypatch):
    calls = []

    def write(table):
        calls.append(table)
        return DOCUMENT

    monkeypatch.setattr(resources, "document", write)
    client = TestClient(create_app(settings))
    assert [client.simulate_get("/api/openapi.json").json for _ in range(3)] == [DOCUMENT] * 3
    assert len(calls) == 1


def test_the_document_is_written_before_the_first_request(stores):
    """By a process of its own, whose number this script has it contain."""
    script = (
        "import os; from api.openapi import resources;"
        "resources.document = lambda table: {'process': os.getpid()};"
        "from api.gunicorn import load; from falcon import testing;"
        "sent = testing.simulate_get(load(), '/api/openapi.json').json;"
        "print(sent['process'] == os.getpid())"
    )
    environment = {**os.environ, **SECRETS, **stores}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.stdout.splitlines()[-1:], ended.returncode) == (["False"], 0), ended.stderr


def test_the_page_loads_nothing_but_its_script_and_the_document(client):
    page = client.simulate_get("/api/docs").text
    assert re.findall(r'(?:href|src)="([^"]*)"', page) == [
        "data:,",
        "/api/docs/script.js",
        "/api/openapi.json",
    ]
    assert "@import" not in page
    assert set(re.findall(r"url\(\W*(\w+:)", page)) <= {"data:"}
    assert not re.search(r"<script(?! defer src)|\son\w+=", page)


def test_the_page_starts_swagger_ui_on_this_document(client):
    script = client.simulate_get("/api/docs/script.js").text
    assert "SwaggerUIBundle=" in script
    assert script.rstrip().endswith("});")
    assert 'url: "/api/openapi.json"' in script[-1000:]
