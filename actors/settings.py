"""What those need to know, besides the stores, who send mail or keep media."""

import os
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
from pydantic import Field, field_validator

from db.core import settings


def _box() -> str:
    return _local("mail")


def _local(name: str) -> str:
    return (Path(os.environ.get("DATA_DIR") or ".data").resolve() / name).as_uri()


PUBLIC_URL = "http://127.0.0.1:3000"
# compose.yml's mail catcher.
MAIL_CATCHER = "smtp://mailpit:1025"


class PublicSettings(settings.StoreSettings):
    """What links lead to."""

    # The address of this API, as people's browsers reach it.
    public_url: str = PUBLIC_URL

    @field_validator("public_url")
    @classmethod
    def _web(cls, value: str) -> str:
        return _a_web_address(value)

    def public_url_faults(self) -> list[str]:
        """What is wrong with the address in production, for those whose links lead there."""
        return [] if self.public_url not in ("", PUBLIC_URL) else [_left("PUBLIC_URL")]


class MediaSettings(PublicSettings):
    """Where pictures are kept, and what links to them begin with."""

    # file:///a/directory, or whatever else fsspec reaches.
    media_url: str = Field(default_factory=lambda: _local("media"))

    @field_validator("media_url")
    @classmethod
    def _reached(cls, value: str) -> str:
        if not value:
            return _local("media")
        parts = urlsplit(value)
        if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
            return value
        if parts.scheme in ("", "file") or "://" not in value:
            raise ValueError("must be file:///directory, or a URL of another kind that fsspec knows")
        try:
            fsspec.get_filesystem_class(parts.scheme)
        except (ValueError, ImportError) as error:
            raise ValueError(str(error)) from None
        return value

    def production_faults(self) -> list[str]:
        """A developer's directory is no place for pictures."""
        left = self.media_url == _local("media")
        return [*super().production_faults(), *([_left("MEDIA_URL")] if left else [])]


def _left(name: str) -> str:
    return f"{name}: must be set in production, and not to the developer's default"


def _a_web_address(value: str) -> str:
    if value and not (value.startswith(("http://", "https://")) and urlsplit(value).hostname):
        raise ValueError("must be an http:// or https:// URL")
    return value.rstrip("/")


class MailSettings(PublicSettings):
    """Where mail goes, and what its links lead to."""

    # smtp://[user:password@]host[:port], smtps://..., or file:///a/directory: one .eml a message.
    mail_url: str = Field(default_factory=_box)
    mail_from: str = Field("Paywright <no-reply@paywright.example>", min_length=3)
    # The address of the frontend, as people's browsers reach it.
    frontend_url: str = ""
    password_pepper: str = Field(min_length=1)

    @field_validator("mail_url")
    @classmethod
    def _known(cls, value: str) -> str:
        if not value:
            return _box()
        parts = urlsplit(value)
        if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
            return value
        if parts.scheme in ("smtp", "smtps") and parts.hostname:
            return settings.check_port(value)
        raise ValueError("must be smtp://host:port, smtps://host:port or file:///directory")

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        if "@" not in parseaddr(value)[1] or not value.isprintable():
            raise ValueError("must be an address, as Paywright <no-reply@bank.example>")
        return value

    def production_faults(self) -> list[str]:
        """Mail must leave the machine, and its links must lead to it."""
        left = self.mail_url in (_box(), MAIL_CATCHER)
        return [
            *super().production_faults(),
            *settings.secret_faults(PASSWORD_PEPPER=self.password_pepper),
            *([_left("MAIL_URL")] if left else []),
            *self.public_url_faults(),
        ]

    @field_validator("frontend_url")
    @classmethod
    def _web_too(cls, value: str) -> str:
        return _a_web_address(value)
