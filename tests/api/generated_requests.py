"""Requests that schemathesis makes from the OpenAPI document, for tests/api/test_schemathesis.py."""

import sys
from functools import cache
from itertools import count
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from db import postgres
from tests.api.routing import app

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
# Without this entry schemathesis looks for Flask wherever a package may be, for each request.
sys.modules.setdefault("flask", None)  # type: ignore[arg-type]
# Everybody whom an operation refuses for want of a token gets the same answer.
STRANGERS = 3


@cache
def schema() -> Any:
    return schemathesis.openapi.from_wsgi("/api/openapi.json", whole)


def check(label: str, tokens: list[str]) -> None:
    """Sends the generated requests of one operation, and checks every response."""
    made = count()

    @settings(
        # Besides the cases at the limits of every field, which are two thirds of all: they are not counted here.
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def answered(case: Any) -> None:
        # Chosen by the case, so that a repeated case has the same role.
        token = tokens[len(f"{case.query} {case.body}") % len(tokens)]
        # No worker runs in this test: no payment would ever be settled.
        case.headers.pop("Prefer", None)
        signed = {"Authorization": f"Bearer {token}"}
        for headers in [{}, signed] if next(made) < STRANGERS else [signed]:
            # A request that fails in the middle must not spoil the transaction for the next one.
            with postgres.database.atomic() as savepoint:
                response = case.call(headers=headers)
                savepoint.rollback()
            case.validate_response(response, checks=CHECKS, headers=headers)

    operation = schema().find_operation_by_label(label)
    build_operation_test(
        config=schema().config,
        operation=operation,
        test_func=answered,
        given_kwargs={},
        feedback=FeedbackSources(),
    )()
