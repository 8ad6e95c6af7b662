"""The AsyncAPI document describes every event, and nothing else."""

import json
import re
import shutil
from pathlib import Path

import pytest

from actors.events import EventType
from actors.snapshots import EVENT_DATA
from tests.event_schemas import MESSAGES, check_message
from tests.makers import work
from tests.node import once, project

# The committed one, which is also what is served: to make it takes each process that collects the tests a while.
DOCUMENT = json.loads((Path(__file__).parents[3] / "docs/asyncapi.json").read_text())

CHECK = """
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { diagnostics, document } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
// That a later version of AsyncAPI exists says nothing about the document.
const found = diagnostics.filter((one) => one.code !== "asyncapi-latest-version");
console.log(JSON.stringify({ found, messages: document?.allMessages().all().length }));
"""


@pytest.fixture(scope="module")
def parser(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(root, "tests/asyncapi", tmp_path_factory.mktemp("parser"))


def test_the_document_is_asyncapi(parser, root):
    (parser / "check.mjs").write_text(CHECK)
    shutil.copy(root / "docs/asyncapi.json", parser)
    checked = once(["node", "check.mjs", "asyncapi.json"], parser, reads=["check.mjs", "asyncapi.json"])
    assert json.loads(checked.stdout) == {"found": [], "messages": len(EventType)}, checked.stdout


def test_every_type_has_a_message_with_an_example_of_its_own():
    assert set(MESSAGES) == set(EventType) == set(EVENT_DATA)
    for type, message in MESSAGES.items():
        [example] = message["examples"]
        assert example["payload"]["type"] == type
        check_message(example["payload"])


def test_every_reference_leads_somewhere():
    for reference in re.findall(r'"\$ref": "([^"]*)"', json.dumps(DOCUMENT)):
        found = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            found = found[key]
        assert found


def test_a_message_that_is_not_described_is_found():
    [example] = MESSAGES[EventType.PAYMENT_FAILED]["examples"]
    with pytest.raises(AssertionError, match="colour"):
        check_message({**example["payload"], "data": {**example["payload"]["data"], "colour": "red"}})
    with pytest.raises(AssertionError, match="updated"):
        check_message({**example["payload"], "type": EventType.PAYMENT_UPDATED, "data": {}})


def test_the_document_is_served_with_an_etag(client):
    served = client.simulate_get("/api/asyncapi.json")
    assert (served.status_code, served.json) == (200, DOCUMENT)
    again = client.simulate_get("/api/asyncapi.json", headers={"If-None-Match": served.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_message_of_the_log_is_as_described(client, admin, vendor, customer):
    customer.post("/payments", {"type": "payment", "amount": "12.50"})
    request = vendor.post("/payments", {"type": "initiate", "amount": "80"}).json["data"]
    work()
    customer.post(
        "/payments", {"type": "payment", "requestId": request["id"], "metadata": {"simulate": "decline"}}
    )
    admin.send("PUT", "/admin/config", {"psp.latencyMs": 5})
    work()
    log = admin.get("/admin/events", params={"limit": 100}).json["data"]["items"]
    assert {event["type"] for event in log} >= {EventType.PAYMENT_FAILED, EventType.CONFIG_UPDATED}
    for event in log:
        check_message(event)
