"""A wrong or missing setting is one line that names it."""

import os
import re
import secrets
import subprocess
import sys

import pytest

from actors.settings import MailSettings
from api.settings import WebSettings
from db.core.settings import PUBLISHED, InvalidSetting, secret_faults
from tests.makers import SECRETS

GOOD = {**SECRETS, "DATABASE_URL": "postgresql://localhost/x", "REDIS_URL": "redis://localhost"}


def test_settings_have_defaults_and_are_frozen():
    read = WebSettings.read(GOOD)
    assert (read.port, read.host, read.log_level) == (3000, "127.0.0.1", "INFO")
    with pytest.raises(ValueError, match="frozen"):
        read.port = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("DATABASE_URL", "mysql://localhost"),
        ("REDIS_URL", "localhost:6379"),
        ("APP_ENV", "staging"),
        ("LOG_LEVEL", "LOUD"),
        ("BCRYPT_ROUNDS", "40"),
        ("JWT_SECRET", ""),
        ("DATABASE_URL", "postgresql://h:notaport/x"),
        ("REDIS_URL", "redis://h:notaport"),
        ("HOST", ""),
        ("HOST", "not a host"),
        ("SESSION_MAX_AGE", "a month"),
        ("SESSION_MAX_AGE", "99999days"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_shown(name, value):
    with pytest.raises(InvalidSetting, match=f"^wrong setting: {name}: ") as wrong:
        WebSettings.read({**GOOD, name: value})
    assert "\n" not in str(wrong.value)
    assert not value or value not in str(wrong.value)


def test_a_time_is_read_with_its_unit_or_in_seconds():
    for written, seconds in (
        ("30days", 2_592_000),
        ("12 hours", 43_200),
        ("90", 90),
        ("5m", 300),
        ("1day", 86_400),
    ):
        assert (
            WebSettings.read({**GOOD, "SESSION_MAX_AGE": written}).session_max_age.total_seconds() == seconds
        )
    assert WebSettings.read(GOOD).session_max_age.days == 30


def test_a_missing_setting_is_named():
    with pytest.raises(InvalidSetting, match="DATABASE_URL: is not set"):
        WebSettings.read({name: value for name, value in GOOD.items() if name != "DATABASE_URL"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAIL_URL", "smtp://h:bad"),
        ("MAIL_URL", "smtp://h:99999"),
        ("MAIL_FROM", "no address"),
        ("MAIL_FROM", "a@b.example\nBcc: c@d.example"),
        ("PUBLIC_URL", "https://"),
        ("FRONTEND_URL", "ftp://x"),
    ],
)
def test_a_wrong_setting_of_the_mail_worker_is_named(name, value):
    with pytest.raises(InvalidSetting, match=f"^wrong setting: {name}: "):
        MailSettings.read({**GOOD, name: value})


STRONG, OTHER, THIRD = (secrets.token_urlsafe(32) for _ in range(3))
PRODUCTION = {
    **GOOD,
    "APP_ENV": "production",
    "JWT_SECRET": STRONG,
    "PASSWORD_PEPPER": OTHER,
    "PUBLIC_URL": "https://pay.bank.example",
    "MEDIA_URL": "file:///srv/media",
    "MAIL_URL": "smtps://mail.bank.example",
}
WEAK = [
    "short",
    "a" * 40,
    "0123456789abcdefghijklmnopqrstuvwxyz",
    "changemechangemechangemechangeme12345678",
    "passwordpasswordpasswordpassword1234",
    "please-change-me-this-is-not-a-secret",
    *sorted(PUBLISHED),
]


def test_in_production_proper_settings_are_taken():
    for kind in (WebSettings, MailSettings):
        assert kind.read(PRODUCTION).app_env == "production"
        assert kind.read({**PRODUCTION, "JWT_SECRET_OTHER": THIRD})


@pytest.mark.parametrize("make", [secrets.token_hex, secrets.token_urlsafe])
def test_no_random_secret_is_taken_for_a_weak_one(make):
    assert not [secret for _ in range(500) if secret_faults(X=(secret := make(32)))]


@pytest.mark.parametrize("weak", WEAK)
def test_in_production_a_weak_or_published_secret_is_refused(weak):
    for name in ("JWT_SECRET", "PASSWORD_PEPPER", "JWT_SECRET_OTHER"):
        with pytest.raises(InvalidSetting, match=f"^wrong setting: {name}: ") as wrong:
            WebSettings.read({**PRODUCTION, name: weak})
        assert weak not in str(wrong.value)
    with pytest.raises(InvalidSetting, match=r"^wrong setting: PASSWORD_PEPPER: "):
        MailSettings.read({**PRODUCTION, "PASSWORD_PEPPER": weak})
    assert WebSettings.read({**GOOD, "JWT_SECRET": weak})


def test_in_production_no_two_secrets_are_the_same():
    for name, value in (
        ("PASSWORD_PEPPER", STRONG),
        ("JWT_SECRET_OTHER", STRONG),
        ("JWT_SECRET_OTHER", OTHER),
    ):
        with pytest.raises(InvalidSetting, match=f"^wrong setting: {name}: is the same as "):
            WebSettings.read({**PRODUCTION, name: value})


def test_what_compose_has_for_developers_is_published(root):
    compose = (root / "compose.yml").read_text()
    defaults = re.findall(r"\$\{(?:JWT_SECRET|PASSWORD_PEPPER)-([^}]+)\}", compose)
    assert defaults
    assert set(defaults) | {SECRETS["JWT_SECRET"]} <= PUBLISHED


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (WebSettings, "PUBLIC_URL", "http://127.0.0.1:3000"),
        (WebSettings, "PUBLIC_URL", ""),
        (WebSettings, "MEDIA_URL", ""),
        (WebSettings, "TRUSTED_PROXIES", "0.0.0.0/0"),
        (WebSettings, "TRUSTED_PROXIES", "10.0.0.0/8,::/0"),
        (MailSettings, "MAIL_URL", ""),
        (MailSettings, "MAIL_URL", "smtp://mailpit:1025"),
        (MailSettings, "PUBLIC_URL", "http://127.0.0.1:3000/"),
    ],
)
def test_in_production_a_developers_default_is_refused(kind, name, value):
    with pytest.raises(InvalidSetting, match=f"^wrong setting: {name}: "):
        kind.read({**PRODUCTION, name: value})
    without = {key: other for key, other in PRODUCTION.items() if key != name}
    if name != "TRUSTED_PROXIES":
        with pytest.raises(InvalidSetting, match=f"^wrong setting: {name}: "):
            kind.read(without)
    assert kind.read({**GOOD, name: value})


def test_outside_production_the_usual_local_frontends_are_allowed():
    local = {f"http://localhost:{port}" for port in (3000, 4200, 5173)}
    assert WebSettings.read(GOOD).cors_origins == local
    assert WebSettings.read({**GOOD, "CORS_ORIGINS": ""}).cors_origins == local
    assert WebSettings.read({**GOOD, "CORS_ORIGINS": "https://a.example"}).cors_origins == {
        "https://a.example"
    }
    assert WebSettings.read(PRODUCTION).cors_origins == frozenset()


@pytest.mark.parametrize(
    "command", [["-m", "workers.relay"], ["-m", "workers.main", "payments"], ["-c", "import api.wsgi"]]
)
def test_a_process_with_a_wrong_setting_ends_with_one_line(root, command):
    environment = {"PATH": os.environ["PATH"], **GOOD, "LOG_LEVEL": "LOUD"}
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("wrong setting: LOG_LEVEL: ")
    assert ended.stderr.count("\n") == 1


def test_the_setting_that_gunicorn_reads_itself_ends_the_start_with_one_line_too(root):
    ended = subprocess.run(
        [sys.executable, "-m", "api"],
        cwd=root,
        env={"PATH": os.environ["PATH"], **GOOD, "WEB_CONCURRENCY": "many"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("wrong setting: WEB_CONCURRENCY: ")
    assert ended.stderr.count("\n") == 1
