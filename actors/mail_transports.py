"""Mail transports: an SMTP server, or a directory of `.eml` files."""

import ipaddress
import smtplib
import socket
import ssl
import threading
import time
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname
from uuid import uuid4

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


class MailTransport(Protocol):
    """Sends mail. After any exception the mail may not have been sent."""

    def send(self, mail: EmailMessage) -> None:
        """Sends a mail. Sent again, it has the same Message-ID."""
        ...


class DirectoryTransport:
    """Writes each mail to one `.eml` file named after its Message-ID: sent again, it replaces itself."""

    def __init__(self, url: str) -> None:
        self._path = Path(url2pathname(urlsplit(url).path))

    def send(self, mail: EmailMessage) -> None:
        """Writes the file, whole or not at all."""
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = mail["Message-ID"].strip("<>").partition("@")[0]
        # A random name: two threads may write the same mail.
        unfinished = self._path / f".{name}.{uuid4().hex}"
        unfinished.touch(mode=0o600)
        unfinished.write_bytes(bytes(mail))
        unfinished.replace(self._path / f"{name}.eml")


class SmtpTransport:
    """Sends mail to an SMTP server: `smtps://` encrypted from the start, `smtp://` with STARTTLS if offered.

    A session that takes longer than `deadline` seconds is broken off.
    """

    def __init__(self, url: str, deadline: float = SMTP_DEADLINE_S, *, always_tls: bool = False) -> None:
        parts = urlsplit(url)
        self._deadline = deadline
        # An attacker who strips STARTTLS from the greeting must not read the links. Not needed for loopback.
        self._always_tls = always_tls and not _is_loopback(parts.hostname or "")
        self._secure = parts.scheme == "smtps"
        self._host, self._port = parts.hostname or "", parts.port or (465 if self._secure else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")

    def send(self, mail: EmailMessage) -> None:
        """Sends a mail. Raises MailRejected or OSError."""
        try:
            self._send(mail)
        except smtplib.SMTPRecipientsRefused as error:
            raise MailRejected(next(iter(error.recipients.values()))[0]) from None
        except smtplib.SMTPResponseException as error:
            raise MailRejected(error.smtp_code) from None
        except smtplib.SMTPException as error:
            raise ConnectionError(type(error).__name__) from None

    def _send(self, mail: EmailMessage) -> None:
        context = ssl.create_default_context()
        with _Session(self._deadline) as session:
            if self._secure:
                server: smtplib.SMTP = _SmtpTls(session, self._host, self._port, context=context)
            else:
                server = _Smtp(session, self._host, self._port)
            try:
                server.ehlo()
                if not self._secure and server.has_extn("starttls"):
                    server.starttls(context=context)
                    server.ehlo()
                elif not self._secure and (self._user or self._always_tls):
                    raise ConnectionError(
                        "The server offers no STARTTLS; passwords and links are not sent in clear."
                    )
                if self._user:
                    server.login(self._user, self._password)
                server.send_message(mail)
                # The server has accepted the mail, whatever happens now.
                with suppress(OSError, smtplib.SMTPException):
                    session.limit(_QUIT_TIMEOUT_S)
                    server.quit()
            finally:
                server.close()


class _Session:
    """A connection that is shut down when its time is over.

    A socket timeout starts anew with each byte, and an exception thrown into a thread does not reach one that
    waits for the network. The shutdown of its socket does.
    """

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._timer = self._start_timer(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._socket is not None:
            self._socket.close()

    def limit(self, seconds: float) -> None:
        """Ends the session after this time, if it does not end before."""
        self._timer.cancel()
        self._timer = self._start_timer(min(seconds, self._remaining_s()))

    def connect(self, host: str, port: int) -> socket.socket:
        """Connects to the first address that answers, with a share of the time for each. Raises OSError."""
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure: OSError = TimeoutError("timed out")
        for index, (*_, address) in enumerate(addresses):
            timeout = self._remaining_s() / (len(addresses) - index)
            try:
                connection = socket.create_connection((str(address[0]), port), timeout=timeout)
            except OSError as error:
                failure = error
                continue
            connection.settimeout(self._remaining_s())
            # A file descriptor of its own: TLS takes over the other one.
            self._socket = connection.dup()
            return connection
        raise failure

    def _remaining_s(self) -> float:
        return max(0.001, self._ends_at - time.monotonic())

    def _start_timer(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._shut_down)
        timer.daemon = True
        timer.start()
        return timer

    def _shut_down(self) -> None:
        with suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)


class _Smtp(smtplib.SMTP):
    """An SMTP client on the connection of a session."""

    def __init__(self, session: _Session, host: str, port: int, **more: Any) -> None:
        self._session = session
        super().__init__(host, port, **more)

    def _get_socket(self, host: str, port: int, _timeout: float) -> socket.socket:
        return self._session.connect(host, port)


class _SmtpTls(smtplib.SMTP_SSL, _Smtp):
    """An SMTP client that encrypts from the start."""

    def __init__(self, session: _Session, host: str, port: int, context: ssl.SSLContext) -> None:
        self._session = session
        smtplib.SMTP_SSL.__init__(self, host, port, context=context)


def transport_for(url: str, *, always_tls: bool = False) -> MailTransport:
    """Returns the transport for a MAIL_URL. With `always_tls`, it sends nothing in clear to another host."""
    return DirectoryTransport(url) if url.startswith("file:") else SmtpTransport(url, always_tls=always_tls)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
