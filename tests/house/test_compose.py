"""compose.yml: the Procfile's processes, every setting that they read, and no secret where none is used."""

import re
from typing import Any

import pytest
import yaml

from actors.settings import MailSettings, MediaSettings
from api.settings import WebSettings
from db.core.settings import InvalidSetting, StoreSettings
from workers.process import WorkerSettings

READ_BY: dict[str, list[type[StoreSettings]]] = {
    "web": [WebSettings],
    "payments": [WorkerSettings],
    "psp": [WorkerSettings],
    "events": [WorkerSettings, MediaSettings],
    "mail": [WorkerSettings, MailSettings],
    "subscribers": [WorkerSettings],
    "relay": [WorkerSettings],
    "scheduler": [WorkerSettings],
}
SECRETS = {"JWT_SECRET", "JWT_SECRET_OTHER", "JWT_ED25519", "PASSWORD_PEPPER"}
CHOSEN = {
    "APP_ENV": "production",
    "JWT_SECRET": "pW3kq9Zt-7YxVb1nRs5uE8mCh2LdGfAo6TjKiQ4wX0y",
    "PASSWORD_PEPPER": "Hn5cR8vT2yB7mK1qW4zL9xD3sF6gJ0pAeUoIiYtQrEw",
    "DATABASE_URL": "postgresql://paywright:Tq8vN2xC5bR7@postgres:5432/paywright",
    "REDIS_URL": "redis://:Jk4wP9sD6hL1@redis:6379/0",
    "PUBLIC_URL": "https://pay.bank.example",
    "MAIL_URL": "smtps://mail.bank.example",
    "MAIL_FROM": "Bank <pay@bank.example>",
}


@pytest.fixture(scope="module")
def services(root) -> dict[str, Any]:
    return dict(yaml.safe_load((root / "compose.yml").read_text())["services"])


def environment(service: dict[str, Any], **chosen: str) -> dict[str, str]:
    """What compose hands to the process where the operator's environment is `chosen`."""

    def value(found: re.Match[str]) -> str:
        return chosen.get(found[1], found[2])

    written = service["environment"]
    return {name: re.sub(r"\$\{(\w+)-([^}]*)\}", value, str(text)) for name, text in written.items()}


def test_compose_runs_what_the_procfile_names(root, services):
    lines = (root / "Procfile").read_text().splitlines()
    procfile = dict(line.split(": ", 1) for line in lines if line[:1] != "#")
    assert {name: services[name]["command"] for name in procfile} == procfile
    assert READ_BY.keys() == procfile.keys()


@pytest.mark.parametrize("name", READ_BY)
def test_a_process_is_handed_every_setting_that_it_reads(services, name):
    handed = services[name]["environment"].keys()
    read = {field.upper() for kind in READ_BY[name] for field in kind.model_fields} - {"PAYWRIGHT_STACK"}
    assert read <= handed
    assert handed & SECRETS <= read


@pytest.mark.parametrize("name", READ_BY)
def test_it_starts_in_production_with_secrets_of_its_own(services, name):
    for kind in READ_BY[name]:
        assert kind.read(environment(services[name], **CHOSEN)).app_env == "production"


@pytest.mark.parametrize("name", READ_BY)
def test_it_starts_on_a_developers_machine_as_it_is(services, name):
    for kind in READ_BY[name]:
        assert kind.read(environment(services[name])).app_env == "development"


@pytest.mark.parametrize("missing", [name for name in CHOSEN if name not in ("APP_ENV", "MAIL_FROM")])
def test_in_production_it_refuses_what_is_left_as_it_is_published(services, missing):
    chosen = {name: value for name, value in CHOSEN.items() if name != missing}
    kinds: list[tuple[str, type[StoreSettings]]] = [("web", WebSettings), ("mail", MailSettings)]
    refused = []
    for name, kind in kinds:
        try:
            kind.read(environment(services[name], **chosen))
        except InvalidSetting as wrong:
            refused.append(str(wrong))
    assert refused
    assert all(missing in line for line in refused)


def test_an_empty_rate_limit_is_none(services):
    empty = environment(services["web"], RATE_LIMIT_API="", RATE_LIMIT_AUTH="")
    assert (empty["RATE_LIMIT_API"], empty["RATE_LIMIT_AUTH"]) == ("", "")


def test_the_world_reaches_the_proxy_and_nothing_else(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"proxy", "mailpit"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert services["web"]["environment"]["TRUSTED_PROXIES"].endswith("-172.30.99.2}")
    assert services["proxy"]["networks"]["inside"]["ipv4_address"] == "172.30.99.2"


def test_every_container_is_bounded(services):
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"], name
        assert ":" in service["image"] or "build" in service, name
    assert all(services[name]["read_only"] for name in [*READ_BY, "proxy"])
