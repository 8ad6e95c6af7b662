"""What the documents name is there: commands, files, links, decisions."""

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path

import click
import pytest

from api import cli

OF_OTHER_TOOLS = {"uv.lock"}
# The files that docs/how-to adds in its examples.
OF_EXAMPLES = {
    "NNNN_payment_reference.sql",
    "actors/psp/acme.py",
    "tests/api/payments/test_transactions.py",
    "tests/api/admin/test_roles.py",
    "tests/api/console/test_event_log.py",
}
# The pages, the routes of a developer's stack, and the route of an example.
NOT_IN_THE_DOCUMENT = ("/console", "/dev", "/payments/*/transactions")
PLACES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    ".env.example",
    "compose.yml",
    "Makefile",
    "Procfile",
    "docs",
)


@pytest.fixture(scope="module")
def texts(root) -> dict[Path, str]:
    listed = subprocess.run(
        ["git", "ls-files", *PLACES], cwd=root, capture_output=True, text=True, check=True
    )
    paths = [root / name for name in listed.stdout.split() if not name.endswith((".json", ".png"))]
    return {path: path.read_text() for path in paths}


def test_every_command_that_the_documents_name_exists(texts, root):
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    for path, text in texts.items():
        for target in re.findall(r"(?:`|\$ |@echo \"|\()make (?:-s )?([a-z]+)", text):
            assert target in targets, f"{path.name}: make {target}"
        for module in re.findall(r"python -m ([\w.]+\w)", text):
            spec = importlib.util.find_spec(module)
            if spec and spec.submodule_search_locations:
                spec = importlib.util.find_spec(f"{module}.__main__")
            assert spec, f"{path.name}: python -m {module}"
        for words in re.findall(r"python -m api\.cli((?: [a-z-]+)+)", text):
            command: click.Command | None = cli.main
            for word in words.split():
                if isinstance(command, click.Group):
                    command = command.commands.get(word)
                    assert command, f"{path.name}: python -m api.cli{words}"


def test_every_file_that_the_documents_name_exists(texts, root):
    """As `actors/transitions.py` from the root, or as `transitions.py` somewhere in it."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True)
    tracked = ["/" + name for name in listed.stdout.split()]
    for path, text in texts.items():
        for name in re.findall(r"`([\w/.-]+\.(?:py|md|sql|lock|toml))`", text):
            found = any(file.endswith("/" + name) for file in tracked)
            assert found or name in OF_OTHER_TOOLS | OF_EXAMPLES, f"{path.name}: {name}"


def test_every_route_that_the_documents_name_exists(texts, root):
    paths = json.loads((root / "docs/openapi.json").read_text())["paths"]
    known = {f"{method.upper()} {with_stars(path)}" for path, methods in paths.items() for method in methods}
    for page, text in texts.items():
        for method, path in re.findall(r"\b(GET|POST|PUT|DELETE) (/[\w/:{}.-]*\w}?)", text):
            route = with_stars(path.removeprefix("/api"))
            if page.suffix == ".md" and not route.startswith(NOT_IN_THE_DOCUMENT):
                assert known & {f"{method} /api{route}", f"{method} {route}"}, f"{page.name}: {method} {path}"


def with_stars(path: str) -> str:
    return re.sub(r":\w+|{\w+}", "*", path)


def test_every_link_between_the_documents_leads_somewhere(texts):
    def anchors(page: Path) -> set[str]:
        headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    for path, text in texts.items():
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
            page = path.parent / target if target else path
            assert page.exists(), f"{path.name}: {target}"
            assert not anchor or anchor in anchors(page), f"{path.name}: {target}#{anchor}"


def test_the_committed_description_of_the_events_is_current(root):
    assert (root / "docs/asyncapi.json").read_text() == cli.served_document("asyncapi"), (
        "renew it: make openapi"
    )


def test_every_decision_is_listed_by_its_title_without_a_gap(root):
    folder = root / "docs/decisions"
    listed = re.findall(r"^(\d+)\. \[(.*)\]\((.*)\)$", (folder / "README.md").read_text(), re.MULTILINE)
    assert [name for _, _, name in listed] == sorted(page.name for page in folder.glob("0*.md"))
    assert [int(number) for number, _, _ in listed] == list(range(1, len(listed) + 1))
    for number, title, name in listed:
        assert int(name[:4]) == int(number)
        assert (folder / name).read_text().startswith(f"# {number}. {title}\n")


@pytest.mark.parametrize(("given", "name"), [([], "customer"), (["AS=vendor"], "vendor")])
def test_make_token_is_a_customers_if_nobody_else_is_named(root, given, name):
    """`AS` is also the name of make's own assembler."""
    planned = subprocess.run(
        ["make", "-n", "token", *given],
        cwd=root,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert planned.stdout.rstrip().endswith(f"workers.dev.demo.token {name}")
