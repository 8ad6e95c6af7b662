"""The settings of the web process."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, model_validator

from actors.settings import MediaSettings
from api.middleware.cors import parse_origins
from api.middleware.rate_limit import Rate
from api.middleware.request_context import Proxies
from api.security.keys import Keys
from db.core.settings import InvalidSetting, secret_faults

# Where the common frontend tools serve a page under development.
LOCAL_FRONTENDS = "http://localhost:3000,http://localhost:4200,http://localhost:5173"

_DURATION = re.compile(r"([1-9]\d{0,8})\s*(s|m|h|d|second|minute|hour|day)?s?")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_DURATION_S = 3650 * 86400


def _duration(text: str) -> timedelta:
    """Parses `30days`, `12 hours` or a number of seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS_S[(match[2] or "s")[0]] if match else 0
    if not 1 <= seconds <= _MAX_DURATION_S:
        raise ValueError(
            "must be a duration such as 30days or 12hours, or a number of seconds; at most ten years"
        )
    return timedelta(seconds=seconds)


class WebSettings(MediaSettings):
    """What the entry points read and pass to `create_app`."""

    host: str = Field("127.0.0.1", pattern=r"^[A-Za-z0-9.:_-]+$")
    port: int = Field(3000, ge=1, le=65535)
    web_concurrency: int = Field(2, ge=1, le=64)
    # JWT_SECRET signs. JWT_SECRET_OTHER only verifies, during a rotation (see api/security/key_rotation.py).
    jwt_secret: str = Field(min_length=1)
    jwt_secret_other: str = ""
    # PEM blocks of Ed25519 keys. A private key among them signs instead of JWT_SECRET.
    jwt_ed25519: str = ""
    jwt_issuer: str = Field("paywright", min_length=1)
    jwt_audience: str = Field("paywright-api", min_length=1)
    password_pepper: str = Field(min_length=1)
    bcrypt_rounds: int = Field(10, ge=4, le=16)
    # Counted from the sign-in: refreshing does not extend it.
    session_max_age: Annotated[timedelta, PlainValidator(_duration)] = timedelta(days=30)
    cors_origins: Annotated[frozenset[str], PlainValidator(parse_origins)] = frozenset()
    rate_limit_api: Annotated[Rate | None, PlainValidator(Rate.parse)] = Rate(100, 15 * 60)
    rate_limit_auth: Annotated[Rate | None, PlainValidator(Rate.parse)] = Rate(5, 15 * 60)
    rate_limit_console: Annotated[Rate | None, PlainValidator(Rate.parse)] = Rate(3000, 15 * 60)
    # The DATA_DIR of the launcher that has started this process (workers/dev/stack.py).
    paywright_stack: str = ""
    trusted_proxies: Annotated[Proxies, PlainValidator(Proxies.parse)] = Proxies()

    @property
    def stack(self) -> Path | None:
        """The directory of the stack of `make run` to which this process belongs; None in production."""
        known = self.paywright_stack and self.app_env != "production"
        return Path(self.paywright_stack) if known else None

    @model_validator(mode="after")
    def _has_valid_keys(self) -> Self:
        try:
            Keys(self.jwt_secret, self.jwt_secret_other, ed25519=self.jwt_ed25519)
        except ValueError as error:
            raise InvalidSetting(f"JWT_ED25519: {error}") from None
        return self

    @model_validator(mode="before")
    @classmethod
    def _allows_local_frontends(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("APP_ENV") == "production" or values.get("CORS_ORIGINS"):
            return values
        return {**values, "CORS_ORIGINS": LOCAL_FRONTENDS}

    def production_faults(self) -> list[str]:
        """Adds weak or published secrets, a default PUBLIC_URL, and proxies that are the whole internet.

        Who knows a secret can sign tokens; a trusted proxy can claim any client address.
        """
        secrets = {"JWT_SECRET": self.jwt_secret, "PASSWORD_PEPPER": self.password_pepper}
        if self.jwt_secret_other:
            secrets["JWT_SECRET_OTHER"] = self.jwt_secret_other
        faults = [*super().production_faults(), *secret_faults(**secrets), *self.public_url_faults()]
        if self.trusted_proxies.trusts_whole_internet:
            faults.append("TRUSTED_PROXIES: must name your proxies, not the whole internet")
        return faults
