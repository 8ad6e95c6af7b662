"""SMTP servers that are slow, hang or fall silent: each letter leaves once, and no talk goes on for ever."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from uuid import uuid4

import pytest

from actors import broker, job_leases, mail, mail_sender, mail_transports
from actors.jobs import enqueue, transaction
from actors.mail import UserNotice
from actors.settings import MailSettings
from db import job_journal, postgres
from tests import makers
from tests.makers import SECRETS, until
from workers import relay

Reply = Callable[[socket.socket, bytes], None]


class Server:
    """An SMTP server that sends each of its replies in the given way."""

    def __init__(self, reply: Reply) -> None:
        self.accepted = 0
        self._reply = reply
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _serve(self) -> None:
        while True:
            try:
                line, _address = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(line,), daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        try:
            with line, line.makefile("rb") as heard:
                self._reply(line, b"220 hello\r\n")
                for said in heard:
                    word = said.strip().upper()
                    if word == b"DATA":
                        self._reply(line, b"354 go on\r\n")
                        while heard.readline().strip() != b".":
                            pass
                        self.accepted += 1
                    self._reply(line, b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
        except OSError:
            return


@pytest.fixture
def server() -> Iterator[Callable[[Reply], Server]]:
    servers: list[Server] = []

    def start(reply: Reply) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for it in servers:
        it.close()


def letter() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "Hello"
    message.set_content("Hello.")
    return message


def slowly(line: socket.socket, reply: bytes) -> None:
    time.sleep(0.9)
    line.sendall(reply)


def never(_line: socket.socket, _reply: bytes) -> None:
    time.sleep(600)


def byte_by_byte(line: socket.socket, _reply: bytes) -> None:
    for place in range(6000):
        line.sendall(b"220 hello"[min(place, 8) :][:1])
        time.sleep(0.1)


@pytest.mark.parametrize("reply", [never, byte_by_byte])
def test_a_talk_that_does_not_end_is_broken_off(server, reply):
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        mail_transports.SmtpTransport(server(reply).url, deadline=1).send(letter())
    # Far below what the server would take, and far above what a busy machine needs.
    assert time.monotonic() - began < 60


def test_a_server_that_is_slow_is_waited_for(server):
    slow = server(slowly)
    mail_transports.SmtpTransport(slow.url, deadline=60).send(letter())
    assert slow.accepted == 1


@pytest.mark.parametrize("bye", [b"", b"421 no\r\n", b"nonsense\r\n"])
def test_a_letter_that_was_accepted_has_left_however_the_server_says_good_bye(server, bye, monkeypatch):
    monkeypatch.setattr(mail_transports, "_QUIT_TIMEOUT_S", 0.2)

    def reply(line: socket.socket, words: bytes) -> None:
        line.sendall(bye if words.startswith(b"221") else words)

    rude = server(reply)
    mail_transports.SmtpTransport(rude.url, deadline=60).send(letter())
    assert rude.accepted == 1


def test_a_connection_that_nobody_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        where = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for it in waiting:
                it.setblocking(False)
                it.connect_ex(where)
            with pytest.raises((ConnectionError, TimeoutError)):
                mail_transports.SmtpTransport(f"smtp://127.0.0.1:{where[1]}", deadline=0.5).send(letter())
        finally:
            for it in waiting:
                it.close()


def test_the_longest_talk_ends_before_its_lease_is_given_up():
    assert job_leases.LEASE_S < mail_transports.SMTP_DEADLINE_S < job_leases.RENEWED_FOR_S


@pytest.fixture
def committed(stores) -> Iterator[None]:
    """Data that is really committed, and cleaned up."""
    broker.current().client.flushdb()
    yield
    makers.wipe()


def test_a_server_that_takes_longer_than_a_lease_gets_each_letter_once(
    committed, server, stores, monkeypatch
):
    """Three seconds a reply, in small: seven replies take twice as long as a lease."""
    slow = server(slowly)
    monkeypatch.setattr(job_leases, "LEASE_S", 3.0)
    monkeypatch.setattr(job_leases, "_RENEW_EVERY_S", 0.4)
    mail_sender.configure(MailSettings.read({**SECRETS, **stores, "MAIL_URL": slow.url}))
    with postgres.connection(), transaction():
        tasks = [
            mail.notify_user.job(makers.user().id, UserNotice.PASSWORD_CHANGED, uuid4()) for _ in range(2)
        ]
        for task in tasks:
            enqueue(task)
    again: list[int] = []
    ended = threading.Event()
    workers = [threading.Thread(target=mail.notify_user, args=(str(task.id),)) for task in tasks]
    workers.append(threading.Thread(target=job_leases.keep_renewing, args=(ended,)))
    for worker in workers:
        worker.start()

    def left() -> bool:
        """While the relay sends again whatever is overdue, which another worker would take."""
        again.append(relay.once())
        with postgres.connection():
            return job_journal.JobRow.select().count() == 0

    until(left)
    ended.set()
    for worker in workers:
        worker.join(60)
    assert slow.accepted == 2
    assert sum(again) == 0
