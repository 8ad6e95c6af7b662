"""The pages for clients of the API say what the code does: docs/errors.md, docs/integration.md."""

import json
import re
from pathlib import Path

import pytest

# Imports every module that declares an error.
from api import app
from api.http.responses import MEANING_BY_CODE, STATUS_BY_CODE, ErrorDetails
from db.core.errors import DomainError, ErrorCode
from db.users import Role


def table(page: Path, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with this cell."""
    _, _, rest = page.read_text().partition(f"\n| {first} |")
    assert rest, f"{page.name} has no table of {first}"
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def subclasses(kind: type[DomainError]) -> set[type[DomainError]]:
    return {kind} | {error for child in kind.__subclasses__() for error in subclasses(child)}


@pytest.fixture(scope="module")
def errors(root) -> dict[ErrorCode, list[str]]:
    return {ErrorCode(row[0].strip("`")): row[1:] for row in table(root / "docs/errors.md", "code")}


def test_the_page_of_errors_lists_every_code_with_its_status(errors):
    assert {code: int(row[0]) for code, row in errors.items()} == STATUS_BY_CODE


def test_the_page_of_errors_has_the_meanings_of_the_openapi_document(errors):
    assert {code: row[1] for code, row in errors.items()} == MEANING_BY_CODE


def test_the_page_of_errors_says_retry_after_where_the_api_does(errors):
    assert app
    timed = {
        error.code
        for error in subclasses(DomainError) - {DomainError}
        if error.retry_after is not None or "{seconds}" in (error.__doc__ or "")
    }
    assert {code for code, row in errors.items() if row[2].startswith("after `Retry-After`")} == timed


def test_the_page_of_errors_names_every_field_of_details(errors):
    named = {name for row in errors.values() for name in re.findall(r"`(\w+)`", row[3])} - {"read_only"}
    fields = ErrorDetails.model_fields
    assert named == {field.serialization_alias or field.alias or name for name, field in fields.items()}


def test_the_matrix_of_roles_agrees_with_the_routes(root):
    document = json.loads((root / "docs/openapi.json").read_text())
    allowed = {
        f"{method.upper()} {re.sub(r'{[^}]*}', ':id', path.removeprefix('/api'))}": operation.get("x-roles")
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    for routes, *cells in table(root / "docs/integration.md", "route"):
        for route in re.findall(r"`([A-Z]+ [^`]+)`", routes):
            roles = [
                role for role, cell in zip(("CUSTOMER", "VENDOR", "ADMIN"), cells, strict=True) if cell != "–"
            ]
            assert allowed[route] == sorted(map(Role, roles)), route


def test_what_the_pages_install_is_what_the_tests_use(root):
    known: dict[str, str] = {}
    for name in ("frontend", "bruno"):
        package = json.loads((root / "tests" / name / "package.json").read_text())
        known |= package.get("dependencies", {}) | package["devDependencies"]
    pages = [root / "docs/frontend/README.md", root / "docs/testing-an-integration.md"]
    installs = [
        line
        for page in pages
        for line in re.findall(r"^\$ npm install (.*)$", page.read_text(), re.MULTILINE)
    ]
    wanted = re.findall(
        r"(?<!\S)((?:@\w+/)?[\w-]+?)(?:@(\d+))?(?!\S)", re.sub(r"--\S+", "", " ".join(installs))
    )
    assert len(wanted) == 5
    for name, major in wanted:
        assert known[name].startswith(f"{major}." if major else ""), name
