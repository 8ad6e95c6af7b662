"""People made by a command."""

import io
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import demo_users, people
from db import users
from db.core.settings import InvalidSetting
from db.users import Role

pytestmark = pytest.mark.usefixtures("database")


def sign_in(client, email: str, password: str) -> dict[str, Any]:
    result = client.simulate_post("/api/auth/login", json={"email": email, "password": password})
    return result.json["data"]["user"]


def sign_in_tokens(client, email: str) -> str:
    body = {"email": email, "password": "Paywright-demo-1"}
    return str(client.simulate_post("/api/auth/login", json=body).json["data"]["accessToken"])


def test_the_demo_users_can_sign_in_and_are_made_once(client, settings):
    people.demo(settings)
    people.demo(settings)
    for role in Role:
        user = sign_in(client, f"{role.lower()}@example.com", "Paywright-demo-1")
        assert (user["role"], user["emailVerified"]) == (role, True)
    assert users.User.select().count() == 3


def test_there_are_no_demo_users_in_production(settings):
    production = settings.model_copy(update={"app_env": "production"})
    with pytest.raises(SystemExit, match="none in production"):
        people.demo(production)
    assert users.User.select().count() == 0


def test_production_does_not_start_with_demo_users(client, settings):
    production = settings.model_copy(update={"app_env": "production"})
    demo_users.check(production)
    people.demo(settings)
    token = sign_in_tokens(client, "vendor@example.com")
    with pytest.raises(InvalidSetting, match="has demo users"):
        demo_users.check(production)
    people.close_demo()
    demo_users.check(production)
    login = {"email": "admin@example.com", "password": "Paywright-demo-1"}
    assert client.simulate_post("/api/auth/login", json=login).status_code == 401
    headers = {"Authorization": f"Bearer {token}"}
    assert client.simulate_get("/api/auth/me", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("host", "warnings"), [("127.0.0.1", 0), ("localhost", 0), ("::1", 0), ("0.0.0.0", 1), ("::", 1)]
)
def test_demo_users_that_the_world_can_reach_are_warned_of(settings, host, warnings):
    reachable = settings.model_copy(update={"host": host})
    with capture_logs() as before:
        demo_users.check(reachable)
    people.demo(settings)
    with capture_logs() as logged:
        demo_users.check(reachable)
    assert (len(before), len(logged)) == (0, warnings)


def test_the_first_admin_is_made_with_a_password_from_standard_input(client, settings, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough password\n"))
    people.admin(settings, "boss@bank.example")
    assert sign_in(client, "boss@bank.example", "a long enough password")["role"] == "ADMIN"


@pytest.mark.parametrize(
    ("email", "password", "why"),
    [("boss@bank.example", "short", "password: "), ("boss", "long enough", "email: ")],
)
def test_an_admin_that_could_not_register_is_not_made(settings, monkeypatch, email, password, why):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    with pytest.raises(SystemExit, match=why):
        people.admin(settings, email)


def test_an_address_that_is_taken_is_said(settings, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough password\n" * 2))
    people.admin(settings, "boss@bank.example")
    with pytest.raises(SystemExit, match="account with this e-mail address"):
        people.admin(settings, "Boss@Bank.example")
    assert users.User.select().count() == 1
