"""Mail transports: an SMTP server, or a directory of `.eml` files."""

import os
import smtplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname
from uuid import uuid4

from actors.deadlines import within
from db.core.settings import is_loopback

# How long one SMTP session may take: less than its lease is renewed (actors/job_leases.py), and long enough
# for a server that takes some seconds for each of its seven replies.
SMTP_DEADLINE_S = 45.0
# How long a server may take to answer QUIT, when it has accepted the message.
_QUIT_TIMEOUT_S = 1.0


class MailRejected(Exception):
    """The server rejected the message. Has its code, and not its text, which may contain an address."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the server answered {code}")
        self.code = code

    @property
    def permanent(self) -> bool:
        """Whether the server would reject the message again (RFC 5321, 4.2.1)."""
        return 500 <= self.code < 600


@dataclass(frozen=True)
class OutgoingMail:
    """A mail: the addresses of its envelope, and the message in the format of RFC 5322, with plain newlines.

    `id` is the local part of its Message-ID.
    """

    sender: str
    recipient: str
    id: str
    content: bytes


class MailTransport(Protocol):
    """Sends mail. After any exception the mail may not have been sent."""

    def send(self, mail: OutgoingMail) -> None:
        """Sends a mail. Sent again, it has the same Message-ID."""
        ...


class DirectoryTransport:
    """Writes each mail to one `.eml` file named after its Message-ID: sent again, it replaces itself."""

    def __init__(self, url: str) -> None:
        self._path = Path(url2pathname(urlsplit(url).path))

    def send(self, mail: OutgoingMail) -> None:
        """Writes the file, whole or not at all."""
        try:
            self._write(mail)
        except FileNotFoundError:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write(mail)

    def _write(self, mail: OutgoingMail) -> None:
        # A random name: two threads may write the same mail.
        unfinished = self._path / f".{mail.id}.{uuid4().hex}"
        with open(unfinished, "xb", opener=_open_private) as file:
            file.write(mail.content)
        unfinished.replace(self._path / f"{mail.id}.eml")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class SmtpTransport:
    """Sends mail to an SMTP server: `smtps://` encrypted from the start, `smtp://` with STARTTLS if offered.

    A session that takes longer than `deadline` seconds is broken off.
    """

    def __init__(self, url: str, deadline: float = SMTP_DEADLINE_S, *, always_tls: bool = False) -> None:
        parts = urlsplit(url)
        self._deadline = deadline
        # An attacker who strips STARTTLS from the greeting must not read the links. Not needed for loopback.
        self._always_tls = always_tls and not is_loopback(parts.hostname or "")
        self._secure = parts.scheme == "smtps"
        self._host, self._port = parts.hostname or "", parts.port or (465 if self._secure else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")

    def send(self, mail: OutgoingMail) -> None:
        """Sends a mail. Raises MailRejected or OSError."""
        context = ssl.create_default_context()
        # Half of the time for each connection and reply: one address that does not answer leaves time for the
        # next one.
        timeout = self._deadline / 2
        server = (
            smtplib.SMTP_SSL(timeout=timeout, context=context)
            if self._secure
            else smtplib.SMTP(timeout=timeout)
        )
        # `connect` does not set it, and the certificate is checked against it.
        server._host = self._host  # type: ignore[attr-defined]
        try:
            within(self._deadline, lambda: self._deliver(server, context, mail))
            # The server has accepted the mail, whatever happens now.
            with suppress(OSError, smtplib.SMTPException):
                within(_QUIT_TIMEOUT_S, server.quit)
        except smtplib.SMTPRecipientsRefused as error:
            raise MailRejected(next(iter(error.recipients.values()))[0]) from None
        except smtplib.SMTPResponseException as error:
            raise MailRejected(error.smtp_code) from None
        except smtplib.SMTPException as error:
            raise ConnectionError(type(error).__name__) from None
        finally:
            _disconnect(server)

    def _deliver(self, server: smtplib.SMTP, context: ssl.SSLContext, mail: OutgoingMail) -> None:
        server.connect(self._host, self._port)
        server.ehlo()
        if not self._secure and server.has_extn("starttls"):
            server.starttls(context=context)
            server.ehlo()
        elif not self._secure and (self._user or self._always_tls):
            raise ConnectionError("The server offers no STARTTLS; passwords and links are not sent in clear.")
        if self._user:
            server.login(self._user, self._password)
        options: tuple[str, ...] = ()
        if not mail.recipient.isascii():
            if not server.has_extn("smtputf8"):
                raise smtplib.SMTPNotSupportedError
            options = ("SMTPUTF8", "BODY=8BITMIME")
        server.sendmail(mail.sender, mail.recipient, mail.content.replace(b"\n", b"\r\n"), options)


def _disconnect(server: smtplib.SMTP) -> None:
    """Ends a connection, also one on which a thread waits: `close` alone would not wake that thread."""
    with suppress(OSError):
        if server.sock is not None:
            server.sock.shutdown(socket.SHUT_RDWR)
    server.close()


def transport_for(url: str, *, always_tls: bool = False) -> MailTransport:
    """Returns the transport for a MAIL_URL. With `always_tls`, it sends nothing in clear to another host."""
    return DirectoryTransport(url) if url.startswith("file:") else SmtpTransport(url, always_tls=always_tls)
