"""A wrong or missing setting is one line that names it."""

import os
import subprocess
import sys

import pytest

from actors.settings import MailSettings
from api.settings import Settings
from db.settings import WrongSetting
from tests.makers import SECRETS

GOOD = {**SECRETS, "DATABASE_URL": "postgresql://localhost/x", "REDIS_URL": "redis://localhost"}


def test_settings_have_defaults_and_are_frozen():
    read = Settings.read(GOOD)
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
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_shown(name, value):
    with pytest.raises(WrongSetting, match=f"^wrong setting: {name}: ") as wrong:
        Settings.read({**GOOD, name: value})
    assert "\n" not in str(wrong.value)
    assert not value or value not in str(wrong.value)


def test_a_missing_setting_is_named():
    with pytest.raises(WrongSetting, match="DATABASE_URL: is not set"):
        Settings.read({name: value for name, value in GOOD.items() if name != "DATABASE_URL"})


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
    with pytest.raises(WrongSetting, match=f"^wrong setting: {name}: "):
        MailSettings.read({**GOOD, name: value})


def test_in_production_weak_secrets_are_refused_all_at_once():
    strong = "0123456789abcdefghijklmnopqrstuvwxyz"
    for weak in ("short", "a" * 40):
        chosen = {**GOOD, "APP_ENV": "production", "JWT_SECRET": weak, "PASSWORD_PEPPER": weak}
        with pytest.raises(WrongSetting, match=r"JWT_SECRET: needs .*; PASSWORD_PEPPER: needs "):
            Settings.read(chosen)
        with pytest.raises(WrongSetting, match=r"^wrong setting: PASSWORD_PEPPER: needs "):
            Settings.read({**chosen, "JWT_SECRET": strong})
    assert Settings.read({**chosen, "JWT_SECRET": strong, "PASSWORD_PEPPER": strong})


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
