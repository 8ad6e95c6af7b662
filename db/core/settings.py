"""Settings: read once from the environment into frozen values; a wrong one stops the start in one line."""

import os
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

# Secrets that anybody can read in this repository.
PUBLISHED = frozenset(
    {
        "for-development-only-and-not-for-anything-else",
        "for-development-only-and-for-no-other-use",
        "a secret for tests, thirty-two bytes long",
    }
)
# The stores' password in compose.yml.
PUBLISHED_STORE_PASSWORD = "paywright"
SECRET_BYTES = 32
# What people write where a secret is to come: it makes none longer.
_FILLERS = re.compile(
    r"change[-_ ]?(me|this|it)?|please|default|example|secret|password|passphrase|pepper|paywright"
    r"|production|development|insecure|unsafe|random|string|super|token|replace|dummy",
    re.IGNORECASE,
)


class InvalidSetting(Exception):
    """A setting is missing or wrong; the message names it."""


class StoreSettings(BaseModel):
    """What every process needs to know: where the stores are and how to log."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=str.upper, hide_input_in_errors=True
    )

    app_env: Literal["development", "test", "production"] = "development"
    database_url: str
    redis_url: str
    database_pool: int = Field(30, ge=1, le=500)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must be a postgresql:// URL")
        return check_port(value)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be a redis:// URL")
        return check_port(value)

    @model_validator(mode="after")
    def _fit_for_production(self) -> Self:
        if self.app_env == "production" and (faults := self.production_faults()):
            raise InvalidSetting("wrong setting: " + "; ".join(faults))
        return self

    def production_faults(self) -> list[str]:
        """What is good enough for a developer and not for production: `NAME: what is wrong` each."""
        urls = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        return [
            f"{name}: its password is a published example, and no secret"
            for name, url in urls.items()
            if urlsplit(url).password == PUBLISHED_STORE_PASSWORD
        ]

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads the environment. Raises WrongSetting, one line, naming every variable at fault."""
        try:
            return cls.model_validate(dict(environment))
        except ValidationError as wrong:
            faults = (f"{fault['loc'][0]}: {_plain(fault['msg'])}" for fault in wrong.errors())
            raise InvalidSetting("wrong setting: " + "; ".join(faults)) from None


def secret_faults(**secrets: str) -> list[str]:
    """What is wrong with these secrets in production, by their names: weak, published, or used twice."""
    faults, seen = [], dict[str, str]()
    for name, value in secrets.items():
        if value in PUBLISHED:
            faults.append(f"{name}: is a published example, and no secret")
        elif value in seen:
            faults.append(f"{name}: is the same as {seen[value]}: each needs a value of its own")
        elif _weak(value):
            faults.append(f"{name}: needs {SECRET_BYTES} random bytes or more in production")
        seen.setdefault(value, name)
    return faults


def _weak(secret: str) -> bool:
    rest = _FILLERS.sub("", secret)
    if len(rest.encode()) < SECRET_BYTES or len(set(rest)) < 8:
        return True
    # Repetition (abcabc), and runs of the alphabet or of digits: hardly there in anything random.
    triples = [rest[place : place + 3] for place in range(len(rest) - 2)]
    steps = [ord(after) - ord(before) for before, after in pairwise(rest)]
    return len(set(triples)) < 0.8 * len(triples) or sum(abs(step) <= 1 for step in steps) > len(steps) / 2


def check_port(url: str) -> str:
    """The URL, if its port is a number or not there. Raises ValueError."""
    try:
        assert urlsplit(url).port != 0
    except (ValueError, AssertionError):
        raise ValueError("has a port that is none") from None
    return url


S = TypeVar("S", bound=StoreSettings)


def _plain(message: str) -> str:
    return "is not set" if message == "Field required" else message.removeprefix("Value error, ")


def read_or_exit(kind: type[S]) -> S:
    """The settings of an entry point; a wrong one ends the process with status 2 and one line on stderr."""
    try:
        return kind.read()
    except InvalidSetting as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.exit(2)
