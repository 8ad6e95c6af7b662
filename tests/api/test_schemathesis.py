"""Whatever the document allows, and much that it does not, is answered as the document says; never by a 500."""

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
    # What the document does not allow, nobody takes: so it does not describe less than there is.
    negative_data_rejection,
]


def whole(environ: Any, start_response: Any) -> list[bytes]:
    """The application behind a server that closes what it has sent, as servers do and the client here does not."""
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
def test_every_answer_is_as_the_document_says(case, tokens):
    # By the case itself, so that it comes again with the same role.
    token = tokens[len(f"{case.query} {case.body}") % len(tokens)]
    # Nobody is at work in this test: to wait for a payment to be settled would only take time.
    case.headers.pop("Prefer", None)
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        # A request that fails in the middle must not spoil the transaction for the next one.
        with postgres.database.atomic() as savepoint:
            response = case.call(headers=headers)
            savepoint.rollback()
        case.validate_response(response, checks=CHECKS, headers=headers)
