"""At the door every test also holds the answers to the document."""

import json

import pytest
from falcon.testing import TestClient

from api.app import create_app
from api.openapi.__main__ import written
from api.settings import Settings
from tests.api.conformance import Conforming, Document


@pytest.fixture(scope="session")
def document() -> Document:
    return Document(json.loads(written()))


@pytest.fixture
def client(database: None, settings: Settings, document: Document) -> TestClient:
    return Conforming(create_app(settings), document)
