"""How a letter leaves the house: to an SMTP server, or into a directory."""

import os
import smtplib
import ssl
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

# In seconds, for each step of the talk with a server; all of them stay below an actor's time limit.
_TIMEOUT = 4


class Refused(Exception):
    """A server's refusal: its code, and not what else it says, which may be an address."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the server answered {code}")
        self.code = code

    @property
    def final(self) -> bool:
        """Whether it would say the same again (RFC 5321, 4.2.1)."""
        return 500 <= self.code < 600


class Post(Protocol):
    """Takes letters. Whatever it raises means that this one may not have left."""

    def send(self, letter: EmailMessage) -> None:
        """Sends a letter; sent again, it has the same Message-ID."""
        ...


class Directory:
    """One `.eml` a letter, named after its Message-ID: sent again, it replaces itself."""

    def __init__(self, url: str) -> None:
        self._path = Path(url2pathname(urlsplit(url).path))

    def send(self, letter: EmailMessage) -> None:
        """Writes the letter, whole or not at all."""
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = letter["Message-ID"].strip("<>").partition("@")[0]
        unfinished = self._path / f".{name}.{os.getpid()}"
        unfinished.touch(mode=0o600)
        unfinished.write_bytes(bytes(letter))
        unfinished.replace(self._path / f"{name}.eml")


class Smtp:
    """An SMTP server: `smtps://` from the first byte encrypted, `smtp://` where the server offers it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "smtps"
        self._host, self._port = parts.hostname or "", parts.port or (465 if self._secure else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")

    def send(self, letter: EmailMessage) -> None:
        """Hands the letter over. Raises Refused or OSError."""
        try:
            self._send(letter)
        except smtplib.SMTPRecipientsRefused as error:
            raise Refused(next(iter(error.recipients.values()))[0]) from None
        except smtplib.SMTPResponseException as error:
            raise Refused(error.smtp_code) from None
        except smtplib.SMTPException as error:
            raise ConnectionError(type(error).__name__) from None

    def _send(self, letter: EmailMessage) -> None:
        context = ssl.create_default_context()
        if self._secure:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=_TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=_TIMEOUT)
        with server:
            server.ehlo()
            if not self._secure and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            elif not self._secure and self._user:
                raise ConnectionError("no STARTTLS: a password is not sent in clear")
            if self._user:
                server.login(self._user, self._password)
            server.send_message(letter)


def office(url: str) -> Post:
    """The Post behind a MAIL_URL."""
    return Directory(url) if url.startswith("file:") else Smtp(url)
