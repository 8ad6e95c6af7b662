"""Mails, and the transports that send them."""

import email
import email.policy
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from actors import mail, mail_sender, mail_templates
from actors.jobs import enqueue, transaction
from actors.mail import UserNotice
from actors.mail_sender import OutgoingMail
from actors.settings import MailSettings
from db import job_journal
from db.core.settings import InvalidSetting
from db.one_time_tokens import OneTimeToken, Purpose
from db.users import User
from tests import makers
from tests.makers import SECRETS, mailbox, work
from tests.tables import JobRow
from workers.dev.servers import free_port

pytestmark = pytest.mark.usefixtures("database")


class Inbox(Message):
    """The mails that an SMTP server received."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[email.message.Message] = []

    def handle_message(self, message: email.message.Message) -> None:
        self.mails.append(message)


@pytest.fixture
def smtp() -> Iterator[tuple[Inbox, str]]:
    inbox, port = Inbox(), free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield inbox, f"smtp://127.0.0.1:{port}"
    controller.stop()


def notify(user: User) -> job_journal.Job:
    job = mail.notify_user.job(user.id, UserNotice.PASSWORD_CHANGED, uuid4())
    with transaction():
        enqueue(job)
    return job


def use_transport(url: str, stores: dict[str, str]) -> None:
    mail_sender.configure(MailSettings.read({**SECRETS, **stores, "MAIL_URL": url}))


def test_a_mail_is_sent_to_an_smtp_server(smtp, stores):
    inbox, url = smtp
    use_transport(url, stores)
    user = makers.user()
    User.update(name="Zoë <Z>", email_verified=True).execute()
    notify(user)
    work()
    [sent] = inbox.mails
    assert (sent["To"], sent["Subject"]) == (user.email, "Your password was changed")
    assert "Hello Zoë <Z>" in makers.text_of(parse(bytes(sent)))
    assert "Hello Zo&#235; &lt;Z&gt;" in makers.text_of(parse(bytes(sent)), "html")


def test_a_mail_is_written_to_one_file_of_a_directory(tmp_path, stores):
    use_transport((tmp_path / "my mail").as_uri(), stores)
    user = makers.user()
    with transaction():
        enqueue(mail.request_verification.job(user.id))
    work()
    [file] = (tmp_path / "my mail").iterdir()
    assert file.suffix == ".eml"
    assert file.stat().st_mode & 0o077 == 0
    raw = file.read_bytes()
    # Readable without decoding: quoted-printable would break the link into two lines.
    assert raw.count(b"http://127.0.0.1:3000/verify-email?token=") == 2


def test_a_mail_sent_again_contains_the_same_link(tmp_path, stores):
    use_transport(tmp_path.as_uri(), stores)
    user = makers.user()
    with transaction():
        enqueue(mail.request_verification.job(user.id))
    mail.request_verification.perform(next(iter(JobRow.select())).id)
    [row] = JobRow.select()
    mail.send_link._function(**row.args)
    [first] = tmp_path.iterdir()
    before = first.read_bytes()
    mail.send_link._function(**row.args)
    [again] = tmp_path.iterdir()
    assert makers.token_of(parse(before)) == makers.token_of(parse(again.read_bytes()))


def parse(raw: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(raw, policy=email.policy.default)


def test_a_mail_is_kept_while_the_server_is_unavailable(stores):
    use_transport(f"smtp://127.0.0.1:{free_port()}", stores)
    job = notify(makers.user())
    mail.notify_user(str(job.id))
    [waiting] = JobRow.select()
    assert waiting.id == job.id
    assert (waiting.error or "").startswith("ConnectionRefusedError")


@pytest.mark.parametrize(("code", "kept"), [(550, 0), (451, 1)])
def test_a_permanent_rejection_ends_the_job_and_a_temporary_one_does_not(smtp, stores, code, kept):
    inbox, url = smtp

    async def reject(*_: object) -> str:
        return f"{code} no"

    inbox.handle_RCPT = reject
    use_transport(url, stores)
    user = makers.user()
    job = notify(user)
    mail.notify_user(str(job.id))
    assert JobRow.select().where(JobRow.id == job.id).count() == kept
    errors = [row.error for row in JobRow.select()]
    assert all(user.email not in (text or "") for text in errors)
    assert inbox.mails == []


def test_the_server_password_is_not_sent_in_clear(smtp, stores):
    inbox, url = smtp
    use_transport(url.replace("smtp://", "smtp://jo:secret@"), stores)
    job = notify(makers.user())
    mail.notify_user(str(job.id))
    [row] = JobRow.select().where(JobRow.id == job.id)
    assert "STARTTLS" in (row.error or "")
    assert inbox.mails == []


def test_no_link_is_sent_in_clear_to_another_host(smtp):
    inbox, url = smtp
    message = OutgoingMail("a@bank.example", "b@shop.example", "one", b"Subject: Hello\n\nHello.\n")
    # 0.0.0.0 reaches this machine, and is no loopback address.
    other_host = url.replace("127.0.0.1", "0.0.0.0")
    with pytest.raises(ConnectionError, match="STARTTLS"):
        mail_sender.transport_for(other_host, always_tls=True).send(message)
    assert inbox.mails == []
    mail_sender.transport_for(other_host).send(message)
    mail_sender.transport_for(url, always_tls=True).send(message)
    assert len(inbox.mails) == 2


def test_an_international_domain_is_sent_in_ascii(smtp, stores):
    inbox, url = smtp
    use_transport(url, stores)
    user = makers.user()
    User.update(email="jo@münchen.example").where(User.id == user.id).execute()
    notify(user)
    work()
    assert inbox.mails[0]["To"] == "jo@xn--mnchen-3ya.example"


@pytest.mark.parametrize(
    "name",
    [
        *("Pay http://evil.example/ now", "WWW.evil.example", "evil\u3002example", "evil\uff0eexample"),
        *("evil 185.12.3.4:8080", "evil tel:+4990012345", "javascript:evil", "evil +49 900 123456"),
    ],
)
def test_a_name_that_mail_programs_link_is_left_out(name):
    assert "evil" not in mail_templates.password_changed(name).text()


@pytest.mark.parametrize(
    "name", ["Robin Doe", "Dr. Ann O'Neil-Smith Jr.", "J. R. R. Tolkien", "Zoë 2nd", "李 小龍"]
)
def test_a_common_name_is_shown(name):
    assert f"Hello {name}," in mail_templates.password_changed(name).text()


def test_an_unverified_address_is_not_greeted_by_name():
    user = makers.user()
    User.update(name="URGENT call 0900 123456").where(User.id == user.id).execute()
    with transaction():
        enqueue(mail.request_verification.job(user.id))
        enqueue(mail.request_password_reset.job(user.email))
    work()
    assert len(mailbox) == 2
    assert not [sent for sent in mailbox if "URGENT" in makers.text_of(sent)]


def test_a_closed_account_gets_no_mail(stores):
    user = makers.user(active=False)
    notify(user)
    with transaction():
        enqueue(mail.request_verification.job(user.id))
        enqueue(mail.request_password_reset.job(user.email))
    work()
    assert mailbox == []
    assert OneTimeToken.select().count() == 0


def test_the_job_journal_contains_no_token():
    user = makers.user()
    with transaction():
        enqueue(mail.request_password_reset.job(user.email))
    mail.request_password_reset.perform(next(iter(JobRow.select())).id)
    [row] = JobRow.select().where(JobRow.name == "mail.send_link")
    work()
    assert mailbox.token() not in str(row.args)
    assert row.args.keys() == {"user_id", "purpose", "id"}
    assert row.args["purpose"] == Purpose.RESET_PASSWORD


def test_links_lead_to_the_frontend_if_it_is_configured(stores):
    settings = {"PUBLIC_URL": "https://api.example/", "FRONTEND_URL": "https://www.example"}
    mail_sender.configure(MailSettings.read({**SECRETS, **stores, **settings}), transport=mailbox)
    user = makers.user()
    with transaction():
        enqueue(mail.request_password_reset.job(user.email))
        enqueue(mail.request_verification.job(user.id))
    work()
    texts = [makers.text_of(sent) for sent in mailbox]
    assert any("https://www.example/reset-password?token=" in text for text in texts)
    assert any("https://www.example/verify-email?token=" in text for text in texts)


@pytest.mark.parametrize("url", ["mailto:x", "smtp://", "file://host/path", "file:relative", "http://x"])
def test_an_unsupported_mail_url_stops_the_start(stores, url):
    with pytest.raises(InvalidSetting, match="MAIL_URL: must be smtp"):
        MailSettings.read({**SECRETS, **stores, "MAIL_URL": url})


def test_html_and_plain_text_say_the_same():
    message = mail_templates.reset_password("Jo & <Co>", "https://x.example/?token=a&b=1")
    assert "Hello Jo & <Co>" in message.text()
    assert "Hello Jo &amp; &lt;Co&gt;" in message.html()
    assert 'href="https://x.example/?token=a&amp;b=1"' in message.html()


def test_user_name_and_password_are_read_from_the_url():
    transport = mail_sender.transport_for("smtps://jo%40x:p%3Aw@mail.example")
    assert isinstance(transport, mail_sender.SmtpTransport)
    assert (transport._host, transport._port, transport._user, transport._password) == (
        "mail.example",
        465,
        "jo@x",
        "p:w",
    )


def test_two_threads_that_write_one_mail_leave_one_file(tmp_path, monkeypatch):
    directory, message = (
        mail_sender.DirectoryTransport(tmp_path.as_uri()),
        OutgoingMail("a@bank.example", "b@shop.example", "one", b"Subject: Hello\n\nHello.\n"),
    )
    together, failed = threading.Barrier(2), []
    replace = Path.replace

    def at_the_same_time(path: Path, target: Path) -> Path:
        together.wait(20)
        replaced = replace(path, target)
        together.wait(20)
        return replaced

    monkeypatch.setattr(Path, "replace", at_the_same_time)

    def send() -> None:
        try:
            directory.send(message)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert [file.name for file in tmp_path.iterdir()] == ["one.eml"]


def test_an_address_that_is_not_ascii_is_sent_as_it_is(smtp, stores):
    inbox, url = smtp
    use_transport(url, stores)
    user = makers.user()
    User.update(email="jö@shop.example").where(User.id == user.id).execute()
    notify(user)
    work()
    assert "jö@shop.example".encode() in bytes(inbox.mails[0])
    assert inbox.mails[0]["X-RcptTo"] == "jö@shop.example"


def test_a_sender_with_a_name_that_is_not_ascii_is_encoded(stores):
    settings = {"MAIL_FROM": "Zahlungen für alle <pay@bank.example>"}
    mail_sender.configure(MailSettings.read({**SECRETS, **stores, **settings}), transport=mailbox)
    notify(makers.user())
    work()
    assert mailbox[0]["From"] == "Zahlungen für alle <pay@bank.example>"
