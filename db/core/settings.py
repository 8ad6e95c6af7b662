"""The settings of a process: read once from the environment, validated, frozen.

The error message is one line that names every invalid variable and shows no value: a value may be a secret.
"""

import ipaddress
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

# Secrets that everybody can read in this repository.
PUBLISHED_SECRETS = frozenset(
    {
        "for-development-only-and-not-for-anything-else",
        "for-development-only-and-for-no-other-use",
        "a secret for tests, thirty-two bytes long",
    }
)
# The password of PostgreSQL and Redis in compose.yml.
PUBLISHED_STORE_PASSWORD = "paywright"
MIN_SECRET_BYTES = 32
_MIN_DISTINCT_CHARACTERS = 8
# Random text repeats hardly any sequence of three characters.
_MIN_DISTINCT_TRIPLES = 0.8
# Words that people write in place of a secret. They do not count towards its length.
_PLACEHOLDERS = re.compile(
    r"change[-_ ]?(me|this|it)?|please|default|example|secret|password|passphrase|pepper|paywright"
    r"|production|development|insecure|unsafe|random|string|super|token|replace|dummy",
    re.IGNORECASE,
)


class InvalidSetting(Exception):
    """One or more settings are missing or invalid. Each fault reads `NAME: what is wrong`."""

    def __init__(self, *faults: str) -> None:
        super().__init__("invalid setting: " + "; ".join(faults))


class StoreSettings(BaseModel):
    """What every process needs: the addresses of the stores and the log level."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=str.upper, hide_input_in_errors=True
    )

    app_env: Literal["development", "test", "production"] = "development"
    database_url: str
    redis_url: str
    database_pool: int = Field(30, ge=1, le=500)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    # Where spans are sent to, by OTLP/HTTP; empty: nowhere.
    otel_exporter_otlp_endpoint: str = ""

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must be a postgresql:// URL")
        return check_port(value)

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be a redis:// URL")
        return check_port(value)

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _is_reachable_by_http(cls, value: str) -> str:
        check_port(check_web_url(value))
        if value and find_spec("opentelemetry") is None:
            raise ValueError("needs the packages of requirements-otel.lock")
        return value

    @model_validator(mode="after")
    def _is_fit_for_production(self) -> Self:
        if self.app_env == "production" and (faults := self.production_faults()):
            raise InvalidSetting(*faults)
        return self

    def production_faults(self) -> list[str]:
        """Returns what is allowed in development and not in production: `NAME: what is wrong` each."""
        urls = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        return [
            f"{name}: its password is a published example"
            for name, url in urls.items()
            if urlsplit(url).password == PUBLISHED_STORE_PASSWORD
        ]

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads the settings from the environment. Raises InvalidSetting."""
        try:
            return cls.model_validate(dict(environment))
        except ValidationError as error:
            faults = [f"{fault['loc'][0]}: {_message(fault['msg'])}" for fault in error.errors()]
            raise InvalidSetting(*faults) from None

    @classmethod
    def read_or_exit(cls) -> Self:
        """Reads the settings of an entry point, or ends the process as `exit_if_invalid` does."""
        with exit_if_invalid():
            return cls.read()


@contextmanager
def exit_if_invalid() -> Iterator[None]:
    """Ends the process with status 2 and one line on stderr where the block raises InvalidSetting."""
    try:
        yield
    except InvalidSetting as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def secret_faults(**secrets: str) -> list[str]:
    """Returns what makes these secrets unfit for production: weak, published, or used twice."""
    faults, names_by_value = [], dict[str, str]()
    for name, value in secrets.items():
        if value in PUBLISHED_SECRETS:
            faults.append(f"{name}: is a published example")
        elif value in names_by_value:
            faults.append(f"{name}: is the same as {names_by_value[value]}: each needs a value of its own")
        elif _is_weak(value):
            faults.append(f"{name}: needs {MIN_SECRET_BYTES} random bytes or more in production")
        names_by_value.setdefault(value, name)
    return faults


def _is_weak(secret: str) -> bool:
    """Returns whether a secret is too short, or unlikely to be random."""
    rest = _PLACEHOLDERS.sub("", secret)
    if len(rest.encode()) < MIN_SECRET_BYTES or len(set(rest)) < _MIN_DISTINCT_CHARACTERS:
        return True
    triples = [rest[start : start + 3] for start in range(len(rest) - 2)]
    if len(set(triples)) < _MIN_DISTINCT_TRIPLES * len(triples):
        return True
    # Runs of the alphabet or of digits are rare in random text.
    distances = [abs(ord(after) - ord(before)) for before, after in pairwise(rest)]
    return sum(distance <= 1 for distance in distances) > len(distances) / 2


def check_web_url(url: str) -> str:
    """Returns the URL if it is empty or one of HTTP. Raises ValueError."""
    if url and not (url.startswith(("http://", "https://")) and urlsplit(url).hostname):
        raise ValueError("must be an http:// or https:// URL")
    return url


def check_port(url: str) -> str:
    """Returns the URL if its port is absent or valid. Raises ValueError."""
    try:
        port = urlsplit(url).port
    except ValueError:
        raise ValueError("invalid port") from None
    if port == 0:
        raise ValueError("invalid port")
    return url


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _message(message: str) -> str:
    return "is not set" if message == "Field required" else message.removeprefix("Value error, ")
