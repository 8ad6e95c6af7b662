"""SMTP servers that are slow or hang: each mail is sent once, and every session ends."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from actors import broker, job_leases, mail, mail_sender
from actors.jobs import enqueue, transaction
from actors.mail import UserNotice
from actors.mail_sender import OutgoingMail
from actors.settings import MailSettings
from db import postgres
from tests import makers
from tests.makers import SECRETS, until
from tests.tables import JobRow
from workers import relay

# How long the slow server takes for each of its seven replies.
REPLY_PAUSE_S = 0.4

Reply = Callable[[socket.socket, bytes], None]


class Server:
    """An SMTP server that sends each reply with the given function."""

    def __init__(self, reply: Reply) -> None:
        self.accepted = 0
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(connection,), daemon=True).start()

    def _session(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                self._reply(connection, b"220 hello\r\n")
                for command in lines:
                    word = command.strip().upper()
                    if word == b"DATA":
                        self._reply(connection, b"354 go on\r\n")
                        while lines.readline().strip() != b".":
                            pass
                        self.accepted += 1
                    self._reply(connection, b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
        except OSError:
            return


@pytest.fixture
def server() -> Iterator[Callable[[Reply], Server]]:
    servers: list[Server] = []

    def start(reply: Reply) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for started in servers:
        started.close()


def mail_message() -> OutgoingMail:
    return OutgoingMail("a@example.com", "b@example.com", "hello", b"Subject: Hello\n\nHello.\n")


def after_a_pause(connection: socket.socket, reply: bytes) -> None:
    time.sleep(REPLY_PAUSE_S)
    connection.sendall(reply)


def never(_line: socket.socket, _reply: bytes) -> None:
    time.sleep(600)


def byte_by_byte(connection: socket.socket, _reply: bytes) -> None:
    for place in range(6000):
        connection.sendall(b"220 hello"[min(place, 8) :][:1])
        time.sleep(0.1)


@pytest.mark.parametrize("reply", [never, byte_by_byte])
def test_a_session_that_does_not_end_is_broken_off(server, reply):
    began = time.monotonic()
    with pytest.raises((ConnectionError, TimeoutError)):
        mail_sender.SmtpTransport(server(reply).url, deadline=1).send(mail_message())
    # Far less than the server would take, and far more than a busy machine needs.
    assert time.monotonic() - began < 60


def test_a_session_that_is_broken_off_leaves_no_thread(server):
    dripping = server(byte_by_byte)
    before = threading.active_count()
    with pytest.raises((ConnectionError, TimeoutError)):
        mail_sender.SmtpTransport(dripping.url, deadline=1).send(mail_message())
    until(lambda: threading.active_count() <= before)


def test_a_slow_server_is_waited_for(server):
    slow = server(after_a_pause)
    mail_sender.SmtpTransport(slow.url, deadline=60).send(mail_message())
    assert slow.accepted == 1


@pytest.mark.parametrize("bye", [b"", b"421 no\r\n", b"nonsense\r\n"])
def test_an_accepted_mail_is_sent_whatever_the_answer_to_quit_is(server, bye, monkeypatch):
    monkeypatch.setattr(mail_sender, "_QUIT_TIMEOUT_S", 0.2)

    def reply(connection: socket.socket, words: bytes) -> None:
        connection.sendall(bye if words.startswith(b"221") else words)

    rude = server(reply)
    mail_sender.SmtpTransport(rude.url, deadline=60).send(mail_message())
    assert rude.accepted == 1


def test_a_connection_that_is_not_accepted_is_given_up():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        where = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for client in waiting:
                client.setblocking(False)
                client.connect_ex(where)
            with pytest.raises((ConnectionError, TimeoutError)):
                mail_sender.SmtpTransport(f"smtp://127.0.0.1:{where[1]}", deadline=0.5).send(mail_message())
        finally:
            for client in waiting:
                client.close()


def test_the_longest_session_ends_before_its_lease_stops_being_renewed():
    assert job_leases.LEASE_S < mail_sender.SMTP_DEADLINE_S < job_leases.RENEWED_FOR_S


@pytest.fixture
def committed(stores) -> Iterator[None]:
    """Committed data, deleted after the test."""
    broker.current().client.flushdb()
    yield
    makers.wipe()


def test_a_session_longer_than_a_lease_sends_each_mail_once(committed, server, stores, monkeypatch):
    """Seven replies take longer than a lease, which a loaded machine may renew more than a second late."""
    slow = server(after_a_pause)
    monkeypatch.setattr(job_leases, "LEASE_S", 6 * REPLY_PAUSE_S)
    monkeypatch.setattr(job_leases, "_RENEW_EVERY_S", 0.2)
    monkeypatch.setattr(job_leases, "_RENEW_MIN_AGE_S", 0.5)
    mail_sender.configure(MailSettings.read({**SECRETS, **stores, "MAIL_URL": slow.url}))
    with postgres.connection(), transaction():
        jobs = [
            mail.notify_user.job(makers.user().id, UserNotice.PASSWORD_CHANGED, uuid4()) for _ in range(2)
        ]
        for job in jobs:
            enqueue(job)
    sent_again: list[int] = []
    ended = threading.Event()
    workers = [threading.Thread(target=mail.notify_user, args=(str(job.id),)) for job in jobs]
    workers.append(threading.Thread(target=job_leases.keep_renewing, args=(ended,)))
    for worker in workers:
        worker.start()

    def all_done() -> bool:
        """Runs the relay too: it would send an overdue job to another worker."""
        sent_again.append(relay.once())
        with postgres.connection():
            return JobRow.select().count() == 0

    until(all_done)
    ended.set()
    for worker in workers:
        worker.join(60)
    assert slow.accepted == 2
    assert sum(sent_again) == 0
