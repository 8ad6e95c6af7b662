"""An invalid or missing setting ends in one line that names it."""

import os
import re
import secrets
import subprocess
import sys

import pytest

from actors.settings import MailSettings
from api.settings import WebSettings
from db.core.settings import PUBLISHED_SECRETS, InvalidSetting, secret_faults
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
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:port"),
        ("SESSION_MAX_AGE", "a month"),
        ("SESSION_MAX_AGE", "99999days"),
    ],
)
def test_an_invalid_setting_is_named_without_its_value(name, value):
    with pytest.raises(InvalidSetting, match=f"^invalid setting: {name}: ") as error:
        WebSettings.read({**GOOD, name: value})
    assert "\n" not in str(error.value)
    assert not value or value not in str(error.value)


def test_a_duration_has_a_unit_or_is_in_seconds():
    durations = {"30days": 2_592_000, "12 hours": 43_200, "90": 90, "5m": 300, "1day": 86_400}
    for text, seconds in durations.items():
        settings = WebSettings.read({**GOOD, "SESSION_MAX_AGE": text})
        assert settings.session_max_age.total_seconds() == seconds
    assert WebSettings.read(GOOD).session_max_age.days == 30


@pytest.mark.parametrize("url", ["postgresql://h:notaport/x", "postgresql://h:99999/x", "postgresql://h:0/x"])
def test_an_invalid_port_is_named(url):
    with pytest.raises(InvalidSetting, match=r"^invalid setting: DATABASE_URL: invalid port$"):
        WebSettings.read({**GOOD, "DATABASE_URL": url})


def test_an_endpoint_of_traces_needs_packages_of_its_own(monkeypatch):
    monkeypatch.setattr("db.core.settings.find_spec", lambda _name: None)
    assert WebSettings.read(GOOD).otel_exporter_otlp_endpoint == ""
    with pytest.raises(
        InvalidSetting, match=r"OTEL_EXPORTER_OTLP_ENDPOINT: needs .* requirements-otel\.lock"
    ):
        WebSettings.read({**GOOD, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})


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
def test_an_invalid_setting_of_the_mail_worker_is_named(name, value):
    with pytest.raises(InvalidSetting, match=f"^invalid setting: {name}: "):
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
    *sorted(PUBLISHED_SECRETS),
]


def test_production_accepts_strong_settings():
    for kind in (WebSettings, MailSettings):
        assert kind.read(PRODUCTION).app_env == "production"
        assert kind.read({**PRODUCTION, "JWT_SECRET_OTHER": THIRD})


@pytest.mark.parametrize("make", [secrets.token_hex, secrets.token_urlsafe])
def test_a_random_secret_is_not_weak(make):
    assert not [secret for _ in range(500) if secret_faults(X=(secret := make(32)))]


@pytest.mark.parametrize("weak", WEAK)
def test_production_refuses_a_weak_or_published_secret(weak):
    for name in ("JWT_SECRET", "PASSWORD_PEPPER", "JWT_SECRET_OTHER"):
        with pytest.raises(InvalidSetting, match=f"^invalid setting: {name}: ") as error:
            WebSettings.read({**PRODUCTION, name: weak})
        assert weak not in str(error.value)
    with pytest.raises(InvalidSetting, match=r"^invalid setting: PASSWORD_PEPPER: "):
        MailSettings.read({**PRODUCTION, "PASSWORD_PEPPER": weak})
    assert WebSettings.read({**GOOD, "JWT_SECRET": weak})


def test_production_refuses_a_repeated_secret():
    for name, value in (
        ("PASSWORD_PEPPER", STRONG),
        ("JWT_SECRET_OTHER", STRONG),
        ("JWT_SECRET_OTHER", OTHER),
    ):
        with pytest.raises(InvalidSetting, match=f"^invalid setting: {name}: is the same as "):
            WebSettings.read({**PRODUCTION, name: value})


def test_the_secrets_in_compose_count_as_published(root):
    compose = (root / "compose.yml").read_text()
    defaults = re.findall(r"\$\{(?:JWT_SECRET|PASSWORD_PEPPER)-([^}]+)\}", compose)
    assert defaults
    assert set(defaults) | {SECRETS["JWT_SECRET"]} <= PUBLISHED_SECRETS


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
def test_production_refuses_a_developers_default(kind, name, value):
    with pytest.raises(InvalidSetting, match=f"^invalid setting: {name}: "):
        kind.read({**PRODUCTION, name: value})
    without = {key: other for key, other in PRODUCTION.items() if key != name}
    if name != "TRUSTED_PROXIES":
        with pytest.raises(InvalidSetting, match=f"^invalid setting: {name}: "):
            kind.read(without)
    assert kind.read({**GOOD, name: value})


def test_local_frontends_are_allowed_outside_production():
    local = {f"http://localhost:{port}" for port in (3000, 4200, 5173)}
    assert WebSettings.read(GOOD).cors_origins == local
    assert WebSettings.read({**GOOD, "CORS_ORIGINS": ""}).cors_origins == local
    assert WebSettings.read({**GOOD, "CORS_ORIGINS": "https://a.example"}).cors_origins == {
        "https://a.example"
    }
    assert WebSettings.read(PRODUCTION).cors_origins == frozenset()


@pytest.mark.parametrize(
    "command", [["-m", "workers.relay"], ["-m", "workers.main", "payments"], ["-c", "import api.gunicorn"]]
)
def test_a_process_with_an_invalid_setting_ends_with_one_line(root, command):
    environment = {"PATH": os.environ["PATH"], **GOOD, "LOG_LEVEL": "LOUD"}
    completed = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 2
    assert completed.stderr.startswith("invalid setting: LOG_LEVEL: ")
    assert completed.stderr.count("\n") == 1


def test_an_invalid_web_concurrency_ends_with_one_line(root):
    completed = subprocess.run(
        [sys.executable, "-m", "api"],
        cwd=root,
        env={"PATH": os.environ["PATH"], **GOOD, "WEB_CONCURRENCY": "many"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 2
    assert completed.stderr.startswith("invalid setting: WEB_CONCURRENCY: ")
    assert completed.stderr.count("\n") == 1
