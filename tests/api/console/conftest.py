"""A browser of the console, in the test's thread and transaction."""

import pytest
from falcon.testing import TestClient

from db import postgres
from db.users import Role
from tests.api.console.browsers import Browser, sign_in
from tests.makers import visitor


@pytest.fixture
def client(database, application) -> TestClient:
    return TestClient(application)


@pytest.fixture
def browser(client: TestClient) -> Browser:
    return Browser(client)


@pytest.fixture
def admin(client: TestClient, browser: Browser) -> Browser:
    """The browser of an administrator, and no jobs."""
    sign_in(browser, visitor(client, Role.ADMIN))
    postgres.rows("DELETE FROM journal.jobs")
    return browser
