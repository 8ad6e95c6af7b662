"""Sends mail as this process is configured: the sender, the transport, the one-time links.

The token of a link is derived from the id of its row and a secret, not drawn at random: a mail that is sent
again contains the same link, and the job journal contains no token. The database has only the token's
SHA-256.
"""

import base64
import email.policy
import hashlib
import hmac
from dataclasses import dataclass
from email.charset import QP, Charset
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formataddr, formatdate, parseaddr
from typing import Any
from uuid import UUID

import structlog
from email_validator import validate_email

from actors import tracing
from actors.mail_templates import MailMessage
from actors.mail_transports import MailRejected, MailTransport, OutgoingMail, transport_for
from actors.settings import MailSettings
from actors.tracing import Kind
from db.one_time_tokens import Purpose

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Config:
    transport: MailTransport
    # As in the header, and in the envelope.
    sender: str
    sender_address: str
    frontend_url: str
    token_key: bytes


_config: _Config | None = None


def configure(settings: MailSettings, *, transport: MailTransport | None = None) -> None:
    """Configures the mail of this process: sent to MAIL_URL, or through the given transport."""
    global _config
    # A key of its own, derived from the one secret that is never rotated: links outlive the signing keys.
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

    It opens a page with a button: a program that only opens links, such as a mail scanner, must verify
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
        with tracing.span("send mail", Kind.CLIENT, {"messaging.message.id": message_id}):
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
# No line of a text is equal to it: each begins with the words of a template, or with a link.
_BOUNDARY = "=_paywright"


def _assembled(sender: str, address: str, message: MailMessage, message_id: str) -> bytes:
    """Returns the message in the format of RFC 5322, in plain text and in HTML."""
    mail = MIMEMultipart("alternative", _BOUNDARY, policy=_POLICY)
    mail["From"] = sender
    # As it is (RFC 6532), also in UTF-8: an encoded word is not allowed in an address.
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
