"""Every request, documented or not, gets a documented response, and never a 500."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from db import postgres
from db.users import Role
from tests.api.routing import app
from tests.makers import visitor

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    # A request that the document does not allow is refused, so the document is complete.
    negative_data_rejection,
]


def whole(environ: Any, start_response: Any) -> list[bytes]:
    """The application behind a server that closes each response, as WSGI servers do and this client does not."""
    sent = _APP(environ, start_response)
    try:
        return list(sent)
    finally:
        if hasattr(sent, "close"):
            sent.close()


_APP = app()
schema = schemathesis.openapi.from_wsgi("/api/openapi.json", whole)


@pytest.fixture
def tokens(client) -> list[str]:
    return [visitor(client, role).token for role in Role]


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)
def test_every_response_is_documented(case, tokens):
    # Chosen by the case, so that a repeated case has the same role.
    token = tokens[len(f"{case.query} {case.body}") % len(tokens)]
    # No worker runs in this test: no payment would ever be settled.
    case.headers.pop("Prefer", None)
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        # A request that fails in the middle must not spoil the transaction for the next one.
        with postgres.database.atomic() as savepoint:
            response = case.call(headers=headers)
            savepoint.rollback()
        case.validate_response(response, checks=CHECKS, headers=headers)
