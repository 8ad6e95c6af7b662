"""A browser of the console, in the test's thread and transaction."""

import pytest
from falcon.testing import TestClient

from api.app import create_app
from tests.api.console.browsers import Browser


@pytest.fixture
def client(database, settings) -> TestClient:
    return TestClient(create_app(settings))


@pytest.fixture
def browser(client: TestClient) -> Browser:
    return Browser(client)
