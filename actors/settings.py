"""Settings of the processes that send mail or store media."""

import os
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from db.core import settings

PUBLIC_URL = "http://127.0.0.1:3000"
# The mail catcher of compose.yml.
MAIL_CATCHER = "smtp://mailpit:1025"


def _local_directory(name: str) -> str:
    return (Path(os.environ.get("DATA_DIR") or ".data").resolve() / name).as_uri()


def _is_directory(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc


def _check_media_url(value: str) -> str:
    if not value or _is_directory(value):
        return value or _local_directory("media")
    scheme = urlsplit(value).scheme
    if scheme in ("", "file") or "://" not in value:
        raise ValueError("must be file:///directory, or a URL of another kind that fsspec supports")
    import fsspec  # noqa: PLC0415  (a megabyte, which files on the disk do not need)

    try:
        fsspec.get_filesystem_class(scheme)
    except (ValueError, ImportError) as error:
        raise ValueError(str(error)) from None
    return value


def _check_mail_url(value: str) -> str:
    if not value or _is_directory(value):
        return value or _local_directory("mail")
    parts = urlsplit(value)
    if parts.scheme in ("smtp", "smtps") and parts.hostname:
        return settings.check_port(value)
    raise ValueError("must be smtp://host:port, smtps://host:port or file:///directory")


def _check_mail_from(value: str) -> str:
    if "@" not in parseaddr(value)[1] or not value.isprintable():
        raise ValueError("must be an e-mail address, such as Paywright <no-reply@bank.example>")
    return value


def _default_faults(**is_default: bool) -> list[str]:
    """Returns a fault for each setting that has the developer's default."""
    return [
        f"{name}: must be set in production, not left at the developer's default"
        for name, left in is_default.items()
        if left
    ]


WebUrl = Annotated[str, AfterValidator(lambda url: settings.check_web_url(url).rstrip("/"))]


class PublicSettings(settings.StoreSettings):
    """Settings of the processes that make links to this API."""

    # The URL of this API for browsers.
    public_url: WebUrl = PUBLIC_URL

    def public_url_faults(self) -> list[str]:
        """Returns what is wrong with PUBLIC_URL in production."""
        return _default_faults(PUBLIC_URL=self.public_url in ("", PUBLIC_URL))


class MediaSettings(PublicSettings):
    """Settings of the processes that store or remove media."""

    # file:///directory, or another URL that fsspec supports.
    media_url: Annotated[str, AfterValidator(_check_media_url)] = Field("", validate_default=True)

    def production_faults(self) -> list[str]:
        """Returns the faults of all settings, among them a media directory at the developer's default."""
        default = _local_directory("media")
        return [*super().production_faults(), *_default_faults(MEDIA_URL=self.media_url == default)]


class MailSettings(PublicSettings):
    """Settings of the processes that send mail."""

    # smtp://[user:password@]host[:port], smtps://..., or file:///directory with one .eml for each mail.
    mail_url: Annotated[str, AfterValidator(_check_mail_url)] = Field("", validate_default=True)
    mail_from: Annotated[str, AfterValidator(_check_mail_from)] = Field(
        "Paywright <no-reply@paywright.example>", min_length=3
    )
    # The URL of the frontend for browsers.
    frontend_url: WebUrl = ""
    password_pepper: str = Field(min_length=1)

    def production_faults(self) -> list[str]:
        """Returns the faults of all settings, among them a weak secret, and mail or links to this machine."""
        return [
            *super().production_faults(),
            *settings.secret_faults(PASSWORD_PEPPER=self.password_pepper),
            *_default_faults(MAIL_URL=self.mail_url in (_local_directory("mail"), MAIL_CATCHER)),
            *self.public_url_faults(),
        ]
