"""Mails about the end of a payment: their recipients and their content."""

from decimal import Decimal
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest

from actors import mail, payment_jobs, transitions
from actors.jobs import enqueue, transaction
from actors.mail_sender import MailRejected
from actors.state_machine import Transition
from db import payment_mails, postgres
from db.payments import Payment
from db.users import Role, User, UserProfile
from tests import makers
from tests.counting import counted
from tests.makers import mailbox, text_of, work

pytestmark = pytest.mark.usefixtures("database")

OUTCOMES = [({}, "paymentCompleted"), ({"simulate": "decline:expired_card"}, "paymentFailed")]
each_outcome = pytest.mark.parametrize(("metadata", "notification"), OUTCOMES, ids=["completed", "failed"])


def paid(
    payer: User,
    vendor: User | None = None,
    *,
    amount: str = "12.50",
    currency: str = "USD",
    description: str | None = None,
    **metadata: Any,
) -> Payment:
    """A payment that has ended; against a request of the vendor, if one is given."""
    with transaction():
        given: dict[str, Any] = {"description": description, "metadata": metadata}
        terms: dict[str, Any] = {"amount": Decimal(amount), "currency": currency, **given}
        request = payment_jobs.create_request(vendor_id=vendor.id, **terms) if vendor else None
    work()
    with transaction():
        if request is None:
            payment = payment_jobs.create_payment(customer_id=payer.id, **terms)
        else:
            payment = payment_jobs.pay_request(request.id, customer_id=payer.id, **given)
    work()
    return makers.reload(payment)


def prefer(user: User, preferences: Any) -> None:
    UserProfile.insert(user_id=user.id, preferences=preferences).on_conflict(
        conflict_target=[UserProfile.user_id], update={UserProfile.preferences: preferences}
    ).execute()


def recipients() -> list[str]:
    """The recipients of all mails."""
    return sorted(message["To"] for message in mailbox)


def mail_to(user: User) -> EmailMessage:
    [message] = [message for message in mailbox if message["To"] == user.email]
    return message


@pytest.fixture
def payer() -> User:
    return makers.user(Role.CUSTOMER)


@pytest.fixture
def vendor() -> User:
    return makers.user(Role.VENDOR)


@each_outcome
def test_the_payer_and_the_vendor_get_one_mail_each(payer, vendor, metadata, notification):
    paid(payer, vendor, **metadata)
    assert recipients() == sorted([payer.email, vendor.email])
    assert work() == []


@each_outcome
def test_a_payment_without_a_request_sends_one_mail_to_the_payer(payer, metadata, notification):
    paid(payer, **metadata)
    assert recipients() == [payer.email]


def test_no_mail_is_sent_before_the_end_nor_for_cancellations_nor_for_requests(payer, vendor):
    makers.open_request(vendor)
    payment = makers.payment(payer)
    with transaction():
        transitions.apply(transitions.locked(payment.id), Transition.CANCEL)
    paid(payer, simulate="blackout")
    assert recipients() == []


@each_outcome
def test_a_user_who_opted_out_gets_no_mail(payer, vendor, metadata, notification):
    prefer(payer, {"notifications": {notification: False}})
    paid(payer, vendor, **metadata)
    assert recipients() == [vendor.email]
    prefer(vendor, {"notifications": {notification: False}})
    paid(payer, vendor, **metadata)
    assert recipients() == [vendor.email]


@each_outcome
@pytest.mark.parametrize(
    "preferences",
    [
        {},
        {"notifications": {}},
        {"notifications": None},
        {"notifications": []},
        {"notifications": "none"},
        {"notifications": {"paymentCompleted": True, "paymentFailed": True}},
        {"notifications": {"paymentCompleted": None, "paymentFailed": None}},
        {"paymentCompleted": False, "paymentFailed": False},
        {"theme": "dark"},
    ],
)
def test_a_user_who_has_not_opted_out_gets_a_mail(payer, metadata, notification, preferences):
    prefer(payer, preferences)
    paid(payer, **metadata)
    assert recipients() == [payer.email]


def test_opting_out_of_failures_does_not_opt_out_of_completions(payer):
    prefer(payer, {"notifications": {"paymentFailed": False}})
    paid(payer)
    assert recipients() == [payer.email]
    paid(payer, simulate="decline")
    assert recipients() == [payer.email]


def test_a_closed_account_gets_no_mail(payer, vendor):
    User.update(active=False).where(User.id == payer.id).execute()
    paid(payer, vendor)
    assert recipients() == [vendor.email]


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [("12.5", "USD", "12.50 USD"), ("500", "JPY", "500 JPY"), ("99999999.99", "EUR", "99999999.99 EUR")],
)
def test_the_amount_has_the_decimals_of_its_currency(payer, vendor, amount, currency, shown):
    # Only a user with a verified address is greeted by name.
    User.update(email_verified=True).where(User.id.in_([payer.id, vendor.id])).execute()
    payment = paid(payer, vendor, amount=amount, currency=currency, description="Two chairs & a table")
    for user, happened in (
        (payer, f"your payment of {shown} went through."),
        (vendor, f"you were paid {shown}."),
    ):
        message = mail_to(user)
        assert message["Subject"] == f"Payment of {shown} completed"
        for kind, about in (("plain", "Two chairs & a table"), ("html", "Two chairs &amp; a table")):
            text = text_of(message, kind)
            assert f"Hello {user.name}, {happened}" in text
            assert f"Payment {payment.id}: {about}." in text


def test_a_failure_mail_has_the_reason_and_says_that_no_money_was_taken(payer, vendor):
    paid(payer, vendor, simulate="decline:insufficient_funds")
    for user, whose in ((payer, "your payment"), (vendor, "a payment to you")):
        message = mail_to(user)
        assert message["Subject"] == "Payment of 12.50 USD failed"
        text = text_of(message)
        assert f"{whose} of 12.50 USD failed, and no money was taken." in text
        assert "The payment was declined: insufficient funds." in text


@pytest.mark.parametrize(
    "description",
    [
        "Pay again: https://evil.example/pay",
        "WWW.evil.example",
        "//evil.example",
        # Most mail programs turn these into links too.
        "me@evil.example",
        "Pay at evil.example now",
        "Pay at evil24.example now",
    ],
)
def test_a_description_that_mail_programs_link_is_left_out(payer, vendor, description):
    payment = paid(payer, vendor, description=description)
    for kind in ("plain", "html"):
        text = text_of(mail_to(vendor), kind)
        assert "evil" not in text.lower()
        assert f"Payment {payment.id}." in text


@pytest.mark.parametrize(
    "description", ["12.50 EUR for 2.5 kg", "No. 7 of 9.", "Smith & Sons, e. V.", "a < b > c"]
)
def test_an_ordinary_description_is_shown(payer, vendor, description):
    paid(payer, vendor, description=description)
    assert f": {description}." in text_of(mail_to(vendor))


@pytest.mark.parametrize("code", ["https://evil.example/pay", "www.evil.example", "evil.example"])
def test_a_decline_code_that_mail_programs_link_is_left_out(payer, vendor, code):
    paid(payer, vendor, simulate=f"decline:{code}")
    assert "evil" not in text_of(mail_to(vendor))


def test_a_description_is_shortened_to_one_line(payer, vendor):
    payment = paid(payer, vendor, description="Two\r\nchairs\n\nBcc: all " + "x" * 400)
    [line] = [line for line in text_of(mail_to(vendor)).splitlines() if str(payment.id) in line]
    assert line.startswith(f"Payment {payment.id}: Two chairs Bcc: all xxx")
    assert line.endswith("x.")
    assert len(line) < 160
    assert mail_to(vendor)["Bcc"] is None


@each_outcome
def test_a_mail_that_is_sent_again_has_the_same_message_id(payer, vendor, metadata, notification):
    payment = paid(payer, vendor, **metadata)
    ids = {message["Message-ID"] for message in mailbox}
    assert len(ids) == 2
    send_again(payer.id, payment)
    send_again(vendor.id, payment)
    assert len(mailbox) == 4
    assert {message["Message-ID"] for message in mailbox} == ids
    paid(payer, vendor, **metadata)
    assert len({message["Message-ID"] for message in mailbox}) == 4


def send_again(user_id: UUID, payment: Payment) -> None:
    """Sends the mail again, as after a worker that died between sending and committing."""
    with transaction():
        notice = mail.PaymentNotice(payment_id=payment.id, to_payee=user_id == payment.payee_id)
        enqueue(mail.notify_payment_ended.job(notice))
    work()


def test_a_duplicate_answer_of_the_psp_sends_one_mail(payer, vendor):
    paid(payer, vendor, simulate="duplicate")
    assert recipients() == sorted([payer.email, vendor.email])


def test_one_statement_reads_what_many_mails_say(payer, vendor):
    payment = paid(payer, vendor)
    notices = [mail.PaymentNotice(payment_id=payment.id, to_payee=to_payee) for to_payee in (False, True)]
    with transaction():
        for notice in notices:
            enqueue(mail.notify_payment_ended.job(notice))
    with counted() as asked:
        mail.notify_payment_ended(str(notices[0].id))
    assert len(mailbox) == 4
    assert asked.statements.count(payment_mails.FIND) == 1


def recorded(payment: Payment) -> list[tuple[bool, bool]]:
    """Whether each mail that was recorded was to the payee, and whether it was rejected."""
    query = "SELECT * FROM payments.payment_mails WHERE payment_id = %s ORDER BY to_payee"
    return [(row["to_payee"], row["rejected"]) for row in postgres.rows(query, payment.id)]


def test_a_mail_is_recorded_once_however_often_it_is_sent(payer, vendor):
    payment = paid(payer, vendor)
    assert recorded(payment) == [(False, False), (True, False)]
    send_again(payer.id, payment)
    assert recorded(payment) == [(False, False), (True, False)]


def test_a_permanent_rejection_is_recorded(payer, monkeypatch):
    def reject(_mail: Any) -> None:
        raise MailRejected(550)

    monkeypatch.setattr(makers.mailbox, "send", reject, raising=False)
    assert recorded(paid(payer)) == [(False, True)]


def test_a_mail_that_nobody_wants_is_not_recorded(payer):
    prefer(payer, {"notifications": {"paymentCompleted": False}})
    assert recorded(paid(payer)) == []
