"""Doors with settings of their own."""

from collections.abc import Callable

import pytest
from falcon.testing import TestClient

from api.app import create_app
from api.settings import WebSettings
from tests.makers import SECRETS

Door = Callable[..., TestClient]


@pytest.fixture
def door(stores: dict[str, str]) -> Door:
    """Makes a door with these settings besides those of all tests."""
    return lambda **more: TestClient(create_app(WebSettings.read({**SECRETS, **stores, **more})))


@pytest.fixture
def behind_a_proxy(door: Door) -> TestClient:
    """A door whose peer is a proxy that it trusts."""
    return door(TRUSTED_PROXIES="127.0.0.1")
