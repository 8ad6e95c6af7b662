"""Settings: read once from the environment into frozen values; a wrong one stops the start in one line."""

import os
import sys
from collections.abc import Mapping
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator


class WrongSetting(Exception):
    """A setting is missing or wrong; the message names it."""


class Settings(BaseModel):
    """What every process needs to know: where the stores are and how to log."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=str.upper, hide_input_in_errors=True
    )

    app_env: Literal["development", "test", "production"] = "development"
    database_url: str
    redis_url: str
    database_pool: int = Field(30, ge=1, le=500)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must be a postgresql:// URL")
        return has_a_port(value)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be a redis:// URL")
        return has_a_port(value)

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads the environment. Raises WrongSetting, one line, naming every variable at fault."""
        try:
            return cls.model_validate(dict(environment))
        except ValidationError as wrong:
            faults = (f"{fault['loc'][0]}: {_plain(fault['msg'])}" for fault in wrong.errors())
            raise WrongSetting("wrong setting: " + "; ".join(faults)) from None


def has_a_port(url: str) -> str:
    """The URL, if its port is a number or not there. Raises ValueError."""
    try:
        assert urlsplit(url).port != 0
    except (ValueError, AssertionError):
        raise ValueError("has a port that is none") from None
    return url


S = TypeVar("S", bound=Settings)


def _plain(message: str) -> str:
    return "is not set" if message == "Field required" else message.removeprefix("Value error, ")


def or_exit(kind: type[S]) -> S:
    """The settings of an entry point; a wrong one ends the process with status 2 and one line on stderr."""
    try:
        return kind.read()
    except WrongSetting as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.exit(2)
