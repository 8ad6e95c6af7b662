"""Sends mail as this process is configured: through an SMTP server, or into a directory of `.eml` files.

The token of a link is derived from the id of its row and a secret, not drawn at random: a mail that is sent
again contains the same link, and the job journal contains no token. The database has only the token's
SHA-256.
"""

import base64
import email.policy
import hashlib
import hmac
import os
import smtplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from email.charset import QP, Charset
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formataddr, formatdate, parseaddr
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname
from uuid import UUID, uuid4

import structlog
from email_validator import validate_email

from actors import tracing
from actors.deadlines import within
from actors.mail_templates import MailMessage
from actors.settings import MailSettings
from db.core.settings import is_loopback
from db.one_time_tokens import Purpose

log = structlog.get_logger(__name__)

# How long one SMTP session may take: less than its lease is renewed (actors/job_leases.py), and long enough
# for a server that takes some seconds for each of its seven replies.
SMTP_DEADLINE_S = 45.0
# How long a server may take to answer QUIT, when it has accepted the message.
_QUIT_TIMEOUT_S = 1.0


class MailRejected(Exception):
    """The server rejected the message. Carries the server's code, not its text, which may name an address."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the server answered {code}")
        self.code = code

    @property
    def permanent(self) -> bool:
        """Returns whether the server would reject the message again (RFC 5321, 4.2.1)."""
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


@dataclass(frozen=True)
class _Config:
    transport: MailTransport
    # The sender in the header From, and the address alone for the envelope.
    sender: str
    sender_address: str
    frontend_url: str
    token_key: bytes


_config: _Config | None = None


def configure(settings: MailSettings, *, transport: MailTransport | None = None) -> None:
    """Configures the mail of this process: sent to MAIL_URL, or through the given transport."""
    global _config
    # Derived from the one secret that is never rotated: links outlive the signing keys.
    token_key = hmac.digest(settings.password_pepper.encode(), b"one-time-links", hashlib.sha256)
    if transport is None:
        transport = transport_for(settings.mail_url, always_tls=settings.app_env == "production")
    frontend_url = settings.frontend_url or settings.public_url
    name, address = parseaddr(settings.mail_from)
    _config = _Config(transport, formataddr((name, address)), address, frontend_url, token_key)


def token(id: UUID) -> str:
    """Returns the token of a one-time token row."""
    digest = hmac.digest(_configured().token_key, id.bytes, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def link(purpose: Purpose, id: UUID) -> str:
    """Returns the link of a one-time token row.

    The page behind it has a button, so that a program that only opens links, such as a mail scanner, verifies
    nothing.
    """
    return f"{_configured().frontend_url}/{purpose}?token={token(id)}"


def send(recipient: str, message: MailMessage, message_id: str) -> bool:
    """Sends a message; returns False where the server will never accept it.

    A mailbox recognises a message that is sent again by its Message-ID. Raises MailRejected or OSError, after
    which the job is retried.
    """
    config = _configured()
    # The domain in ASCII, as in DNS: not every server accepts another form.
    ascii_address = validate_email(recipient, check_deliverability=False, test_environment=True).ascii_email
    address = ascii_address or recipient
    content = _assembled(config.sender, address, message, message_id)
    try:
        with tracing.span("send mail", "CLIENT", {"messaging.message.id": message_id}):
            config.transport.send(OutgoingMail(config.sender_address, address, message_id, content))
    except MailRejected as rejection:
        if not rejection.permanent:
            raise
        log.error("mail rejected permanently", message_id=message_id, code=rejection.code)
        return False
    return True


# The older of the email package's two APIs: the newer one parses each header that is set, and a message takes
# five times as long. No line is broken: links and message ids stay whole.
_POLICY = email.policy.compat32.clone(max_line_length=998, mangle_from_=False)
_QUOTED_UTF8: Any = Charset("utf-8")
_QUOTED_UTF8.body_encoding = QP
# No line of a message equals the boundary: each begins with words of a template, or with a link.
_BOUNDARY = "=_paywright"


def _assembled(sender: str, address: str, message: MailMessage, message_id: str) -> bytes:
    """Returns the message in the format of RFC 5322, in plain text and in HTML."""
    mail = MIMEMultipart("alternative", _BOUNDARY, policy=_POLICY)
    mail["From"] = sender
    # Unencoded, even where it is not ASCII (RFC 6532): an address must not contain encoded words.
    mail["To"] = address.encode().decode("ascii", "surrogateescape")
    mail["Subject"] = message.subject
    mail["Date"] = formatdate(usegmt=True)
    mail["Message-ID"] = f"<{message_id}@paywright>"
    mail["Auto-Submitted"] = "auto-generated"
    text = message.text()
    # Not quoted-printable where the text is ASCII: it would break a link into two lines.
    mail.attach(MIMEText(text, "plain", "us-ascii" if text.isascii() else _QUOTED_UTF8, policy=_POLICY))
    mail.attach(MIMEText(message.html(), "html", "us-ascii", policy=_POLICY))
    return mail.as_bytes()


def _configured() -> _Config:
    if _config is None:
        raise RuntimeError("Mail is not configured. Only a worker of the queue `mail` sends mail.")
    return _config


class DirectoryTransport:
    """Writes each mail to an `.eml` file named after its Message-ID: sent again, it replaces the file."""

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
        # The name that the certificate is checked against; `connect` does not set it.
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
    """Ends a connection. `close` alone would not wake a thread that waits for the connection."""
    with suppress(OSError):
        if server.sock is not None:
            server.sock.shutdown(socket.SHUT_RDWR)
    server.close()


def transport_for(url: str, *, always_tls: bool = False) -> MailTransport:
    """Returns the transport for a MAIL_URL. With `always_tls`, it sends nothing in clear to another host."""
    return DirectoryTransport(url) if url.startswith("file:") else SmtpTransport(url, always_tls=always_tls)
