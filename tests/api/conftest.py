"""Clients of the application. The default one checks every response against the OpenAPI document."""

import json
from collections.abc import Callable
from typing import Any, Literal

import falcon
import pytest
from falcon.testing import TestClient

from actors import records
from api.app import create_app
from api.cli import served_document
from api.settings import WebSettings
from db import postgres
from db.users import Role
from tests.api.conformance import ConformingClient, Document
from tests.event_schemas import check_data
from tests.makers import SECRETS, Visitor, visitor

MakeClient = Callable[..., TestClient]


@pytest.fixture(scope="session")
def document() -> Document:
    return Document(json.loads(served_document("openapi")))


@pytest.fixture
def client(database: None, application: falcon.App, document: Document) -> TestClient:  # type: ignore[type-arg]
    return ConformingClient(application, document)


@pytest.fixture(autouse=True)
def conforming_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test at an event that the AsyncAPI document does not describe."""
    add = records.add

    def checked(kind: Literal["audit_entries", "events"], record: dict[str, Any]) -> None:
        if kind == "events":
            # As the journal and the log store it.
            check_data(record["type"], json.loads(postgres.Json(record["data"]).dumps(record["data"])))
        add(kind, record)

    monkeypatch.setattr(records, "add", checked)


@pytest.fixture
def make_client(stores: dict[str, str]) -> MakeClient:
    """Makes a client of an application that has these settings besides those of all tests."""
    return lambda **settings: TestClient(create_app(WebSettings.read({**SECRETS, **stores, **settings})))


@pytest.fixture
def proxied_client(make_client: MakeClient) -> TestClient:
    """A client that is a trusted proxy."""
    return make_client(TRUSTED_PROXIES="127.0.0.1")


@pytest.fixture
def customer(client: TestClient) -> Visitor:
    return visitor(client, Role.CUSTOMER)


@pytest.fixture
def vendor(client: TestClient) -> Visitor:
    return visitor(client, Role.VENDOR)


@pytest.fixture
def admin(client: TestClient) -> Visitor:
    return visitor(client, Role.ADMIN)
