"""What the web process needs to know besides the stores."""

from typing import Self

from pydantic import Field, model_validator

from db import settings


class Settings(settings.Settings):
    """Read by the entry points, handed to `create_app`."""

    host: str = "127.0.0.1"
    port: int = Field(3000, ge=1, le=65535)
    web_concurrency: int = Field(2, ge=1, le=64)
    jwt_secret: str = Field(min_length=1)
    password_pepper: str = Field(min_length=1)
    bcrypt_rounds: int = Field(10, ge=4, le=16)

    @model_validator(mode="after")
    def _strong_in_production(self) -> Self:
        if self.app_env == "production":
            for name in ("jwt_secret", "password_pepper"):
                if len(getattr(self, name).encode()) < 32:
                    raise settings.WrongSetting(
                        f"wrong setting: {name.upper()}: needs at least 32 bytes in production"
                    )
        return self
