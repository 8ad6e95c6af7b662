"""Letters, and how they leave the house."""

import email
import email.policy
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from actors import mail, mail_sender, mail_templates, mail_transports
from actors.jobs import enqueue, transaction
from actors.mail import UserNotice
from actors.settings import MailSettings
from db import job_journal
from db.core.settings import InvalidSetting
from db.one_time_tokens import OneTimeToken, Purpose
from db.users import User
from tests import makers
from tests.makers import SECRETS, mailbox, work
from workers.dev.servers import free_port

pytestmark = pytest.mark.usefixtures("database")


class Inbox(Message):
    """What an SMTP server was given."""

    def __init__(self) -> None:
        super().__init__()
        self.letters: list[email.message.Message] = []

    def handle_message(self, message: email.message.Message) -> None:
        self.letters.append(message)


@pytest.fixture
def smtp() -> Iterator[tuple[Inbox, str]]:
    inbox, port = Inbox(), free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield inbox, f"smtp://127.0.0.1:{port}"
    controller.stop()


def news(user: User) -> job_journal.Job:
    task = mail.notify_user.job(user.id, UserNotice.PASSWORD_CHANGED, uuid4())
    with transaction():
        enqueue(task)
    return task


def through(url: str, stores: dict[str, str]) -> None:
    mail_sender.configure(MailSettings.read({**SECRETS, **stores, "MAIL_URL": url}))


def test_a_letter_goes_to_an_smtp_server(smtp, stores):
    inbox, url = smtp
    through(url, stores)
    user = makers.user()
    User.update(name="Zoë <Z>", email_verified=True).execute()
    news(user)
    work()
    [letter] = inbox.letters
    assert (letter["To"], letter["Subject"]) == (user.email, "Your password was changed")
    assert "Hello Zoë <Z>" in makers.text_of(parse(bytes(letter)))
    assert "Hello Zo&#235; &lt;Z&gt;" in makers.text_of(parse(bytes(letter)), "html")


def test_a_letter_goes_into_a_directory_one_file_a_letter(tmp_path, stores):
    through((tmp_path / "my mail").as_uri(), stores)
    user = makers.user()
    with transaction():
        enqueue(mail.request_verification.job(user.id))
    work()
    [file] = (tmp_path / "my mail").iterdir()
    assert file.suffix == ".eml"
    assert file.stat().st_mode & 0o077 == 0
    raw = file.read_bytes()
    # Readable without decoding, too: a link that is cut in two is no link.
    assert raw.count(b"http://127.0.0.1:3000/verify-email?token=") == 2


def test_a_letter_sent_again_is_the_same_letter(tmp_path, stores):
    through(tmp_path.as_uri(), stores)
    user = makers.user()
    with transaction():
        enqueue(mail.request_verification.job(user.id))
    mail.request_verification.perform(next(iter(job_journal.JobRow.select())).id)
    [row] = job_journal.JobRow.select()
    mail.send_link._function(**row.args)
    [first] = tmp_path.iterdir()
    before = first.read_bytes()
    mail.send_link._function(**row.args)
    [again] = tmp_path.iterdir()
    assert makers.token_of(parse(before)) == makers.token_of(parse(again.read_bytes()))


def parse(raw: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(raw, policy=email.policy.default)


def test_a_server_that_is_away_delays_a_letter_and_loses_none(stores):
    through(f"smtp://127.0.0.1:{free_port()}", stores)
    task = news(makers.user())
    mail.notify_user(str(task.id))
    [waiting] = job_journal.JobRow.select()
    assert waiting.id == task.id
    assert (waiting.error or "").startswith("ConnectionRefusedError")


@pytest.mark.parametrize(("code", "kept"), [(550, 0), (451, 1)])
def test_a_refusal_for_good_ends_it_and_one_for_now_does_not(smtp, stores, code, kept):
    inbox, url = smtp

    async def refuse(*_: object) -> str:
        return f"{code} no"

    inbox.handle_RCPT = refuse
    through(url, stores)
    user = makers.user()
    task = news(user)
    mail.notify_user(str(task.id))
    assert job_journal.JobRow.select().where(job_journal.JobRow.id == task.id).count() == kept
    errors = [row.error for row in job_journal.JobRow.select()]
    assert all(user.email not in (text or "") for text in errors)
    assert inbox.letters == []


def test_a_password_is_not_sent_in_clear(smtp, stores):
    inbox, url = smtp
    through(url.replace("smtp://", "smtp://jo:secret@"), stores)
    task = news(makers.user())
    mail.notify_user(str(task.id))
    [row] = job_journal.JobRow.select().where(job_journal.JobRow.id == task.id)
    assert "STARTTLS" in (row.error or "")
    assert inbox.letters == []


def test_no_link_is_sent_in_clear_to_another_machine(smtp):
    inbox, url = smtp
    letter = email.message.EmailMessage()
    letter["From"], letter["To"] = "a@bank.example", "b@shop.example"
    # 0.0.0.0 is this machine, too, but only the kernel knows.
    elsewhere = url.replace("127.0.0.1", "0.0.0.0")
    with pytest.raises(ConnectionError, match="STARTTLS"):
        mail_transports.transport_for(elsewhere, always_tls=True).send(letter)
    assert inbox.letters == []
    mail_transports.transport_for(elsewhere).send(letter)
    mail_transports.transport_for(url, always_tls=True).send(letter)
    assert len(inbox.letters) == 2


def test_a_domain_goes_out_as_dns_writes_it(smtp, stores):
    inbox, url = smtp
    through(url, stores)
    user = makers.user()
    User.update(email="jo@münchen.example").where(User.id == user.id).execute()
    news(user)
    work()
    assert inbox.letters[0]["To"] == "jo@xn--mnchen-3ya.example"


@pytest.mark.parametrize(
    "name",
    [
        *("Pay http://evil.example/ now", "WWW.evil.example", "evil\u3002example", "evil\uff0eexample"),
        *("evil 185.12.3.4:8080", "evil tel:+4990012345", "javascript:evil", "evil +49 900 123456"),
    ],
)
def test_a_name_is_nothing_to_click_on_or_to_call(name):
    assert "evil" not in mail_templates.password_changed(name).text()


@pytest.mark.parametrize(
    "name", ["Robin Doe", "Dr. Ann O'Neil-Smith Jr.", "J. R. R. Tolkien", "Zoë 2nd", "李 小龍"]
)
def test_a_name_is_shown_as_it_is(name):
    assert f"Hello {name}," in mail_templates.password_changed(name).text()


def test_a_stranger_is_not_greeted_by_a_name_that_somebody_else_chose():
    user = makers.user()
    User.update(name="URGENT call 0900 123456").where(User.id == user.id).execute()
    with transaction():
        enqueue(mail.request_verification.job(user.id))
        enqueue(mail.request_password_reset.job(user.email))
    work()
    assert len(mailbox) == 2
    assert not [letter for letter in mailbox if "URGENT" in makers.text_of(letter)]


def test_nobody_writes_to_a_closed_account(stores):
    user = makers.user(active=False)
    news(user)
    with transaction():
        enqueue(mail.request_verification.job(user.id))
        enqueue(mail.request_password_reset.job(user.email))
    work()
    assert mailbox == []
    assert OneTimeToken.select().count() == 0


def test_the_journal_holds_no_token():
    user = makers.user()
    with transaction():
        enqueue(mail.request_password_reset.job(user.email))
    mail.request_password_reset.perform(next(iter(job_journal.JobRow.select())).id)
    [row] = job_journal.JobRow.select().where(job_journal.JobRow.name == "mail.send_link")
    work()
    assert mailbox.token() not in str(row.args)
    assert row.args.keys() == {"user_id", "purpose", "id"}
    assert row.args["purpose"] == Purpose.RESET_PASSWORD


def test_a_link_leads_to_the_frontend_where_there_is_one(stores):
    settings = {"PUBLIC_URL": "https://api.example/", "FRONTEND_URL": "https://www.example"}
    mail_sender.configure(MailSettings.read({**SECRETS, **stores, **settings}), transport=mailbox)
    user = makers.user()
    with transaction():
        enqueue(mail.request_password_reset.job(user.email))
        enqueue(mail.request_verification.job(user.id))
    work()
    texts = [makers.text_of(letter) for letter in mailbox]
    assert any("https://www.example/reset-password?token=" in text for text in texts)
    assert any("https://www.example/verify-email?token=" in text for text in texts)


@pytest.mark.parametrize("url", ["mailto:x", "smtp://", "file://host/path", "file:relative", "http://x"])
def test_a_mail_url_of_another_kind_stops_the_start(stores, url):
    with pytest.raises(InvalidSetting, match="MAIL_URL: must be smtp"):
        MailSettings.read({**SECRETS, **stores, "MAIL_URL": url})


def test_a_letter_in_html_says_what_the_plain_one_says():
    letter = mail_templates.reset_password("Jo & <Co>", "https://x.example/?token=a&b=1")
    assert "Hello Jo & <Co>" in letter.text()
    assert "Hello Jo &amp; &lt;Co&gt;" in letter.html()
    assert 'href="https://x.example/?token=a&amp;b=1"' in letter.html()


def test_smtp_with_a_name_and_a_password_is_understood():
    office = mail_transports.transport_for("smtps://jo%40x:p%3Aw@mail.example")
    assert isinstance(office, mail_transports.SmtpTransport)
    assert (office._host, office._port, office._user, office._password) == (
        "mail.example",
        465,
        "jo@x",
        "p:w",
    )


def test_two_threads_with_one_letter_leave_one_file(tmp_path, monkeypatch):
    directory, letter = (
        mail_transports.DirectoryTransport(tmp_path.as_uri()),
        parse(b"Message-ID: <one@paywright>\n\nHello."),
    )
    together, failed = threading.Barrier(2), []
    write = Path.write_bytes

    def at_the_same_time(path: Path, content: bytes) -> int:
        together.wait(20)
        written = write(path, content)
        together.wait(20)
        return written

    monkeypatch.setattr(Path, "write_bytes", at_the_same_time)

    def send() -> None:
        try:
            directory.send(letter)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    assert [file.name for file in tmp_path.iterdir()] == ["one.eml"]
