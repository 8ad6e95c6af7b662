"""Every request, documented or not, gets a documented response, and never a 500."""

import json
from pathlib import Path

import pytest

from db.users import Role
from tests.makers import visitor

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text())
OPERATIONS = [f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture
def tokens(client) -> list[str]:
    return [visitor(client, role).token for role in Role]


# Not `schema.parametrize()`: with pytest 9.2 its tests all have one name, of which xdist runs the first, and
# every process would make the thousands of cases to collect them.
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_response_is_documented(label, tokens):
    # Imported here: schemathesis takes each process that collects the tests half a second.
    from tests.api import generated_requests  # noqa: PLC0415

    generated_requests.check(label, tokens)
