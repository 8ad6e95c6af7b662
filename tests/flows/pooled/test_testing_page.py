"""The commands of docs/testing-an-integration.md, among them those that make a Bruno collection and run it."""

import json
import os
import re
from pathlib import Path

import httpx
import pytest

from tests.flows.conftest import Stack
from tests.flows.pooled.test_commands import run as run_python
from tests.node import once, project, run

COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def commands(root: Path) -> list[str]:
    return COMMAND.findall((root / "docs/testing-an-integration.md").read_text())


def token(stack: Stack, name: str) -> str:
    return run_python(stack, "-m", "workers.dev.demo.token", name).stdout.strip()


@pytest.fixture(scope="module")
def env(stack: Stack) -> dict[str, str]:
    """What the first commands of the page set."""
    base_url = str(stack.http.base_url).rstrip("/")
    return {"BASE_URL": base_url, "TOKEN": token(stack, "customer"), "ADMIN": token(stack, "admin")}


def test_a_curl_of_the_page_succeeds(commands, env, root):
    curls = [command for command in commands if command.startswith("curl")]
    answers = [json.loads(run(["sh", "-c", curl], root, env=env).stdout) for curl in curls]
    assert answers[0]["data"]["failure"]["code"] == "expired_card"
    assert [answer["success"] for answer in answers] == [True] * 3


@pytest.fixture(scope="module")
def bruno(
    root: Path, commands: list[str], env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder with the collection, imported as the page says, and the environment for `bru`."""
    folder = project(root, "tests/bruno", tmp_path_factory.mktemp("collection"))
    known = {**env, "PATH": f"{folder / 'node_modules/.bin'}:{os.environ['PATH']}"}
    (command,) = (command for command in commands if command.startswith("bru import"))
    served = httpx.get(f"{env['BASE_URL']}/api/openapi.json").raise_for_status()
    (folder / "served.json").write_bytes(served.content)
    imported = once(["sh", "-c", command], folder, reads=["served.json"], makes="bruno", env=known)
    assert imported.returncode == 0, imported.stdout + imported.stderr
    return folder / "bruno", known


def calls(bruno, command: str) -> list[tuple[str, int]]:
    """The requests of a run, each with the status of its answer."""
    folder, known = bruno
    done = run(["sh", "-c", f"{command} --reporter-json results.json"], folder, env=known)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    (results,) = json.loads((folder / "results.json").read_text())
    return [
        (
            f"{call['request']['method']} {call['request']['url']}".replace(known["BASE_URL"], ""),
            call["response"]["status"],
        )
        for call in results["results"]
    ]


def test_the_collection_of_a_customer_pays(bruno, commands):
    (command,) = (command for command in commands if command.startswith("bru run"))
    made = dict(calls(bruno, command))
    assert made["POST /api/payments"] == 201
    assert made["GET /api/payments"] == made["GET /api/payments/history"] == 200


def test_every_request_of_the_collection_is_answered_as_documented(bruno, root):
    # Without those that would sign the caller out, and the stream, which does not end.
    folders = "admin operations payments profile"
    environment = '--env "The server of this document" --env-var baseUrl=$BASE_URL --env-var token=$ADMIN'
    made = calls(bruno, f"bru run {folders} -r {environment}")
    paths = json.loads((root / "docs/openapi.json").read_text())["paths"]
    missing = []
    for path, operations in paths.items():
        pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) + r"(\?.*)?")
        for method, operation in operations.items():
            if operation["tags"][0] not in folders.split():
                continue
            answers = [
                status
                for request, status in made
                if request.startswith(f"{method.upper()} ") and pattern.fullmatch(request.split(" ")[1])
            ]
            documented = {int(status) for status in operation["responses"]} - {500, 503}
            if not answers or not set(answers) <= documented:
                missing.append((method, path, answers))
            needs_more = any(parameter.get("required") for parameter in operation["parameters"])
            if method == "get" and not needs_more and "ADMIN" in operation.get("x-roles", ["ADMIN"]):
                assert set(answers) == {200}, path
    assert not missing
