"""How a letter leaves the house: to an SMTP server, or into a directory."""

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

# How long the whole talk with a server may take, in seconds: shorter than its lease is renewed
# (actors/job_leases.py), and long enough for a server that takes some seconds for each of its seven replies.
SMTP_DEADLINE_S = 45.0
# How long a server may take to say good-bye, in seconds: the letter has left by then.
_QUIT_S = 1.0


class MailRejected(Exception):
    """A server's refusal: its code, and not what else it says, which may be an address."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the server answered {code}")
        self.code = code

    @property
    def final(self) -> bool:
        """Whether it would say the same again (RFC 5321, 4.2.1)."""
        return 500 <= self.code < 600


class MailTransport(Protocol):
    """Takes letters. Whatever it raises means that this one may not have left."""

    def send(self, letter: EmailMessage) -> None:
        """Sends a letter; sent again, it has the same Message-ID."""
        ...


class DirectoryTransport:
    """One `.eml` a letter, named after its Message-ID: sent again, it replaces itself."""

    def __init__(self, url: str) -> None:
        self._path = Path(url2pathname(urlsplit(url).path))

    def send(self, letter: EmailMessage) -> None:
        """Writes the letter, whole or not at all."""
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = letter["Message-ID"].strip("<>").partition("@")[0]
        # Two threads may have the same letter in hand.
        unfinished = self._path / f".{name}.{uuid4().hex}"
        unfinished.touch(mode=0o600)
        unfinished.write_bytes(bytes(letter))
        unfinished.replace(self._path / f"{name}.eml")


class SmtpTransport:
    """An SMTP server: `smtps://` from the first byte encrypted, `smtp://` where the server offers it. The
    whole talk about one letter takes `deadline` seconds at most, and is broken off then."""

    def __init__(self, url: str, deadline: float = SMTP_DEADLINE_S, *, always_tls: bool = False) -> None:
        parts = urlsplit(url)
        self._deadline = deadline
        # Whoever strips STARTTLS from the greeting must not read the links. On this machine nobody does.
        self._always_tls = always_tls and not _loopback(parts.hostname or "")
        self._secure = parts.scheme == "smtps"
        self._host, self._port = parts.hostname or "", parts.port or (465 if self._secure else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")

    def send(self, letter: EmailMessage) -> None:
        """Hands the letter over. Raises Refused or OSError."""
        try:
            self._send(letter)
        except smtplib.SMTPRecipientsRefused as error:
            raise MailRejected(next(iter(error.recipients.values()))[0]) from None
        except smtplib.SMTPResponseException as error:
            raise MailRejected(error.smtp_code) from None
        except smtplib.SMTPException as error:
            raise ConnectionError(type(error).__name__) from None

    def _send(self, letter: EmailMessage) -> None:
        context = ssl.create_default_context()
        with _Talk(self._deadline) as talk:
            if self._secure:
                server: smtplib.SMTP = _SmtpTls(talk, self._host, self._port, context=context)
            else:
                server = _Smtp(talk, self._host, self._port)
            try:
                server.ehlo()
                if not self._secure and server.has_extn("starttls"):
                    server.starttls(context=context)
                    server.ehlo()
                elif not self._secure and (self._user or self._always_tls):
                    raise ConnectionError("no STARTTLS: neither a password nor a link is sent in clear")
                if self._user:
                    server.login(self._user, self._password)
                server.send_message(letter)
                # It has left. What comes now changes nothing about that.
                with suppress(OSError, smtplib.SMTPException):
                    talk.hurry(_QUIT_S)
                    server.quit()
            finally:
                server.close()


class _Talk:
    """A connection that is shut down when its time is over.

    A timeout of the socket begins anew with each byte, and an exception thrown into a thread does not reach
    one that waits for the network; a connection that is shut down does.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._line: socket.socket | None = None
        self._clock = self._set(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.cancel()
        if self._line is not None:
            self._line.close()

    def hurry(self, seconds: float) -> None:
        """Ends it in so many seconds, if it is not to end before."""
        self._clock.cancel()
        self._clock = self._set(min(seconds, self._left()))

    def connect(self, host: str, port: int) -> socket.socket:
        """Connects to the first address that answers; each gets its share of the time. Raises OSError."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failed: OSError = TimeoutError("timed out")
        for place, (*_, address) in enumerate(found):
            where = str(address[0]), port
            try:
                line = socket.create_connection(where, timeout=self._left() / (len(found) - place))
            except OSError as error:
                failed = error
                continue
            line.settimeout(self._left())
            # A handle of its own: TLS takes the other one over.
            self._line = line.dup()
            return line
        raise failed

    def _left(self) -> float:
        return max(0.001, self._until - time.monotonic())

    def _set(self, seconds: float) -> threading.Timer:
        clock = threading.Timer(seconds, self._cut)
        clock.daemon = True
        clock.start()
        return clock

    def _cut(self) -> None:
        with suppress(OSError):
            if self._line is not None:
                self._line.shutdown(socket.SHUT_RDWR)


class _Smtp(smtplib.SMTP):
    """One whose connection is a talk's."""

    def __init__(self, talk: _Talk, host: str, port: int, **more: Any) -> None:
        self._talk = talk
        super().__init__(host, port, **more)

    def _get_socket(self, host: str, port: int, _timeout: float) -> socket.socket:
        return self._talk.connect(host, port)


class _SmtpTls(smtplib.SMTP_SSL, _Smtp):
    """The same, encrypted from the first byte on."""

    def __init__(self, talk: _Talk, host: str, port: int, context: ssl.SSLContext) -> None:
        self._talk = talk
        smtplib.SMTP_SSL.__init__(self, host, port, context=context)


def transport_for(url: str, *, always_tls: bool = False) -> MailTransport:
    """The Post behind a MAIL_URL; with `always_tls` nothing is sent in clear to another machine."""
    return DirectoryTransport(url) if url.startswith("file:") else SmtpTransport(url, always_tls=always_tls)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
