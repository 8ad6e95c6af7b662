"""People made by a command."""

import io
from typing import Any

import pytest

from api import people
from db import auth
from db.auth import Role

pytestmark = pytest.mark.usefixtures("database")


def sign_in(client, email: str, password: str) -> dict[str, Any]:
    result = client.simulate_post("/api/auth/login", json={"email": email, "password": password})
    return result.json["data"]["user"]


def test_the_demo_users_can_sign_in_and_are_made_once(client, settings):
    people.demo(settings)
    people.demo(settings)
    for role in Role:
        user = sign_in(client, f"{role.lower()}@example.com", "Paywright-demo-1")
        assert (user["role"], user["emailVerified"]) == (role, True)
    assert auth.User.select().count() == 3


def test_there_are_no_demo_users_in_production(settings):
    production = settings.model_copy(update={"app_env": "production"})
    with pytest.raises(SystemExit, match="none in production"):
        people.demo(production)
    assert auth.User.select().count() == 0


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
    assert auth.User.select().count() == 1
