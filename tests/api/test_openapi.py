"""The document of the API says what is so: all of it, and nothing else."""

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import jsonschema_rs
import pytest
from falcon.testing import TestClient
from openapi_spec_validator import validate

from api.app import create_app
from api.http.envelope import STATUS_BY_CODE
from api.http.operation import Operation
from api.openapi import resources
from api.openapi.__main__ import written
from api.security.permissions import Permission
from db.core.errors import ErrorCode
from tests.api.routing import addresses
from tests.makers import SECRETS

DOCUMENT = json.loads(written())
OPERATIONS = [
    (told["operationId"], method, path, told)
    for path, methods in DOCUMENT["paths"].items()
    for method, told in methods.items()
]
ROUTES = [
    (it.template.replace(":uuid", ""), method.lower(), told)
    for it in addresses()
    for method, told in it.methods.items()
    if method != "HEAD"
]

every_route = pytest.mark.parametrize(
    ("template", "method", "told"),
    [pytest.param(*route, id=f"{route[1]} {route[0]}") for route in ROUTES],
)
every_operation = pytest.mark.parametrize("told", [pytest.param(it[3], id=it[0]) for it in OPERATIONS])


def resolve(told):
    while "$ref" in told:
        found = DOCUMENT
        for key in told["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        told = found
    return told


def faults(schema, value) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
    return [fault.message for fault in validator.iter_errors(value)]


def bare(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def test_the_document_is_openapi():
    assert DOCUMENT["openapi"].startswith("3.1")
    validate(DOCUMENT)


def test_the_committed_document_is_current(root):
    committed = (root / "docs/openapi.json").read_text()
    assert committed == written(), "renew it: make openapi, or python -m api.openapi > docs/openapi.json"


def test_the_version_is_the_projects(root):
    assert f'\nversion = "{DOCUMENT["info"]["version"]}"\n' in (root / "pyproject.toml").read_text()


@every_route
def test_every_route_is_in_the_document(template, method, told):
    found = {bare(path): methods for path, methods in DOCUMENT["paths"].items()}
    documented = found[bare(template)][method]
    public = not isinstance(told, Operation) or told.permission is Permission.ANYONE
    assert (documented.get("security") == []) is public
    if isinstance(told, Operation):
        assert {str(told.status), "405", "429", "500", "503"} <= set(documented["responses"])
        assert told.name, "a generated client calls it by a name of its own"


def test_nothing_else_is_in_the_document():
    routed = {(bare(template), method) for template, method, _told in ROUTES}
    assert {(bare(path), method) for _id, method, path, _told in OPERATIONS} == routed


def test_every_operation_has_a_name_of_its_own_and_a_sentence():
    names = [name for name, *_ in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]*)*", name) for name in names)
    assert not [told["summary"] for *_, told in OPERATIONS if told["summary"].endswith(".")]
    assert all(tag["description"] for tag in DOCUMENT["tags"])


@every_operation
def test_every_parameter_has_a_type(told):
    for parameter in map(resolve, told["parameters"]):
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


def test_what_may_be_left_out_of_a_body_has_no_default():
    bodies = [it["requestBody"]["content"] for *_, it in OPERATIONS if "requestBody" in it]
    schemas = [
        resolve(content["application/json"]["schema"]) for content in bodies if "application/json" in content
    ]
    whole = [resolve(kind) for schema in schemas for kind in schema.get("oneOf", [schema])]
    assert len(whole) > len(schemas)
    assert not [field for schema in whole for field in schema["properties"].values() if "default" in field]


def test_every_thing_to_try_can_be_pasted_as_it_stands(client):
    page = client.simulate_get("/api/docs").text
    tries = [html.unescape(found) for found in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    assert len(tries) > len(OPERATIONS)
    assert not [text for text in tries if "…" in text or "{" in text.partition(" -d ")[0].replace('{"', "")]


def test_no_thing_to_try_changes_a_demo_user():
    for *_, operation in OPERATIONS:
        if operation["operationId"] in ("register", "createUser", "changePassword"):
            [content] = operation["requestBody"]["content"].values()
            shown = json.dumps(content["examples"])
            assert not re.search(r"(admin|vendor|customer)@example\.com|Paywright-demo-1", shown)


@every_operation
def test_every_example_is_what_its_schema_says(told):
    contents = [resolve(response).get("content", {}) for response in told["responses"].values()]
    for content in [*contents, told.get("requestBody", {}).get("content", {})]:
        for media in content.values():
            examples = [example["value"] for example in media.get("examples", {}).values()]
            for example in [*examples, *([media["example"]] if "example" in media else [])]:
                assert faults(media["schema"], example) == []


@every_operation
def test_every_refusal_has_an_example_of_each_of_its_codes(told):
    for status, response in told["responses"].items():
        if int(status) >= 400 and told["tags"] != ["operations"]:
            content = resolve(response)["content"]["application/json"]
            shown = [example["value"]["error"]["code"] for example in content["examples"].values()]
            assert set(shown) == set(resolve(response)["x-codes"])
            for code, example in zip(shown, content["examples"].values(), strict=True):
                assert str(STATUS_BY_CODE[ErrorCode(code)]) == status
                assert "{" not in example["summary"]


@every_route
def test_every_body_to_try_is_taken(template, method, told):
    if not isinstance(told, Operation) or told.body is None:
        return
    [documented] = [it for _, verb, path, it in OPERATIONS if (verb, bare(path)) == (method, bare(template))]
    for example in documented["requestBody"]["content"]["application/json"]["examples"].values():
        told.body.model_validate_json(json.dumps(example["value"]))


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("12.50", True), ("0.01", True), ("500", True), (12.5, True), (500, True), (99999999.99, True),
        ("0012.50", False), ("abc", False), ("1.234", False), ("-1", False), ("1e3", False), (0, False), (-1, False), (1e9, False),
        (True, False), (None, False), ([], False),
    ],
)  # fmt: skip
def test_an_amount_is_described_as_it_is_taken(value, taken):
    assert (faults({"$ref": "#/components/schemas/Amount"}, value) == []) is taken


@pytest.mark.parametrize(
    ("body", "taken"),
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
def test_a_new_payment_is_described_as_it_is_taken(body, taken):
    assert (faults({"$ref": "#/components/schemas/NewPayment"}, body) == []) is taken


@pytest.mark.parametrize(
    ("path", "media"), [("/api/openapi.json", "application/json"), ("/api/docs", "text/html; charset=utf-8")]
)
def test_anybody_reads_it_and_keeps_it_until_it_changes(client, path, media):
    first = client.simulate_get(path)
    assert (first.status_code, first.headers["Content-Type"]) == (200, media)
    assert first.headers["Cache-Control"] == "public, no-cache"
    again = client.simulate_get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.simulate_get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_it_is_drawn_once(settings, database, monkeypatch):
    drawn = []

    def draw(table):
        drawn.append(table)
        return DOCUMENT

    monkeypatch.setattr(resources, "document", draw)
    client = TestClient(create_app(settings))
    assert [client.simulate_get("/api/openapi.json").json for _ in range(3)] == [DOCUMENT] * 3
    assert len(drawn) == 1


def test_no_request_waits_until_it_is_drawn(stores):
    script = (
        "from api.openapi import resources; real, drawn = resources.document, [];"
        "resources.document = lambda table: drawn.append(table) or real(table);"
        "import api.wsgi; print(len(drawn))"
    )
    environment = {**os.environ, **SECRETS, **stores}
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == ("1\n", 0), ended.stderr


class Links(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.tags.add(tag)
        self.refers += [told[name] for name in ("href", "src") if name in told]
        self.ids += [told["id"]] if "id" in told else []


def test_the_page_needs_no_script_and_nothing_from_elsewhere(client):
    page = client.simulate_get("/api/docs").text
    links = Links(page)
    assert not links.tags & {"script", "link", "img", "iframe"}
    assert "@import" not in page
    assert "url(" not in page
    assert {link for link in links.refers if not link.startswith("#")} == {"/api/openapi.json"}
    assert {link[1:] for link in links.refers if link.startswith("#")} <= set(links.ids)
    assert len(set(links.ids)) == len(links.ids)


def test_the_page_tells_of_every_operation_and_every_schema(client):
    ids = set(Links(client.simulate_get("/api/docs").text).ids)
    assert {name for name, *_ in OPERATIONS} <= ids
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= ids
