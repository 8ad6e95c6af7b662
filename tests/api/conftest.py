"""At the door every test also holds the answers to the document."""

import json

import pytest
from falcon.testing import TestClient

from api.app import create_app
from api.openapi.__main__ import written
from api.settings import WebSettings
from db.users import Role
from tests.api.conformance import Conforming, Document
from tests.makers import Visitor, visitor


@pytest.fixture(scope="session")
def document() -> Document:
    return Document(json.loads(written()))


@pytest.fixture
def client(database: None, settings: WebSettings, document: Document) -> TestClient:
    return Conforming(create_app(settings), document)


@pytest.fixture
def customer(client: TestClient) -> Visitor:
    return visitor(client, Role.CUSTOMER)


@pytest.fixture
def vendor(client: TestClient) -> Visitor:
    return visitor(client, Role.VENDOR)


@pytest.fixture
def boss(client: TestClient) -> Visitor:
    return visitor(client, Role.ADMIN)
