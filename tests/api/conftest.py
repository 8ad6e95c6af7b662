"""Clients of the application. The default one checks every response against the OpenAPI document."""

import json
from collections.abc import Callable

import pytest
from falcon.testing import TestClient

from api.app import create_app
from api.cli import openapi_document
from api.settings import WebSettings
from db.users import Role
from tests.api.conformance import ConformingClient, Document
from tests.makers import SECRETS, Visitor, visitor

MakeClient = Callable[..., TestClient]


@pytest.fixture(scope="session")
def document() -> Document:
    return Document(json.loads(openapi_document()))


@pytest.fixture
def client(database: None, settings: WebSettings, document: Document) -> TestClient:
    return ConformingClient(create_app(settings), document)


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
