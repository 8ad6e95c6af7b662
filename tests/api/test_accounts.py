"""Administrators and demo users that the command line creates."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from api import accounts, demo_users
from api.accounts import EmailTaken
from api.security.passwords import Passwords
from db import users
from db.core.settings import InvalidSetting
from db.demo_users import DEMO_PASSWORD
from db.users import Role
from tests.makers import error

pytestmark = pytest.mark.usefixtures("database")

PASSWORD = "a long enough password"


@pytest.fixture
def passwords(settings) -> Passwords:
    return Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds)


@pytest.fixture
def created() -> Callable[[], int]:
    """Counts the users that this test created; other tests may have left users of their own."""
    before = users.User.select().count()
    return lambda: users.User.select().count() - before


def create_admin(passwords: Passwords, email: str, password: str) -> None:
    account = accounts.NewAccount(email=email, name="Admin", password=password)
    accounts.create_verified(passwords, account, Role.ADMIN)


def sign_in(client, email: str, password: str = DEMO_PASSWORD):
    return client.simulate_post("/api/auth/login", json={"email": email, "password": password})


def test_demo_users_can_sign_in(client, passwords):
    demo_users.seed_demo_users(passwords, app_env="test")
    for role in Role:
        user = sign_in(client, f"{role.lower()}@example.com", "Paywright-demo-1").json["data"]["user"]
        assert (user["role"], user["emailVerified"]) == (role, True)


def test_demo_users_are_created_once(passwords, created):
    for _ in range(2):
        demo_users.seed_demo_users(passwords, app_env="test")
    assert created() == 3


def test_production_has_no_demo_users(passwords, created):
    with pytest.raises(InvalidSetting, match="production has no demo users"):
        demo_users.seed_demo_users(passwords, app_env="production")
    assert created() == 0


def test_production_does_not_start_with_demo_users(client, settings, passwords):
    production = settings.model_copy(update={"app_env": "production"})
    demo_users.check(production)
    demo_users.seed_demo_users(passwords, app_env="test")
    with pytest.raises(InvalidSetting, match="has demo users"):
        demo_users.check(production)
    demo_users.suspend_demo_users()
    demo_users.check(production)


def test_suspended_demo_users_are_signed_out(client, passwords):
    demo_users.seed_demo_users(passwords, app_env="test")
    token = sign_in(client, "vendor@example.com").json["data"]["accessToken"]
    demo_users.suspend_demo_users()
    assert error(sign_in(client, "admin@example.com")) == (401, "INVALID_CREDENTIALS")
    headers = {"Authorization": f"Bearer {token}"}
    assert error(client.simulate_get("/api/auth/me", headers=headers)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("host", "warnings"), [("127.0.0.1", 0), ("localhost", 0), ("::1", 0), ("0.0.0.0", 1), ("::", 1)]
)
def test_a_warning_is_logged_when_other_machines_can_reach_demo_users(settings, passwords, host, warnings):
    listening = settings.model_copy(update={"host": host})
    with capture_logs() as before:
        demo_users.check(listening)
    demo_users.seed_demo_users(passwords, app_env="test")
    with capture_logs() as after:
        demo_users.check(listening)
    assert (len(before), len(after)) == (0, warnings)


def test_an_admin_can_be_created(client, passwords):
    create_admin(passwords, "admin@bank.example", PASSWORD)
    user = sign_in(client, "admin@bank.example", PASSWORD).json["data"]["user"]
    assert (user["role"], user["emailVerified"], user["name"]) == ("ADMIN", True, "Admin")


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [("admin@bank.example", "short", "password"), ("admin", "long enough", "email")],
)
def test_an_admin_needs_an_address_and_a_good_password(passwords, created, email, password, field):
    with pytest.raises(ValidationError) as refused:
        create_admin(passwords, email, password)
    assert field in {fault["loc"][0] for fault in refused.value.errors()}
    assert created() == 0


def test_an_admin_needs_an_address_of_their_own(passwords, created):
    create_admin(passwords, "admin@bank.example", PASSWORD)
    with pytest.raises(EmailTaken):
        create_admin(passwords, "Admin@Bank.example", PASSWORD)
    assert created() == 1
