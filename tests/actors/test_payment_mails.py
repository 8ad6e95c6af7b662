"""Who is told by mail how a payment ended, and what they are told."""

from decimal import Decimal
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest

from actors import mail, payment_jobs, transitions
from actors.jobs import enqueue, transaction
from actors.state_machine import Transition
from db import profile
from db.payments import Payment
from db.profile import UserProfile
from db.users import Role, User
from tests import makers
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
    """A payment, against a request of the vendor's if there is one, that has ended."""
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


def told() -> list[str]:
    """Who got a letter."""
    return sorted(letter["To"] for letter in mailbox)


def letter_to(user: User) -> EmailMessage:
    [letter] = [letter for letter in mailbox if letter["To"] == user.email]
    return letter


@pytest.fixture
def payer() -> User:
    return makers.user(Role.CUSTOMER)


@pytest.fixture
def vendor() -> User:
    return makers.user(Role.VENDOR)


@each_outcome
def test_the_payer_and_the_vendor_are_told_once_each(payer, vendor, metadata, notification):
    paid(payer, vendor, **metadata)
    assert told() == sorted([payer.email, vendor.email])
    assert work() == []


@each_outcome
def test_who_pays_against_no_request_is_told_alone(payer, metadata, notification):
    paid(payer, **metadata)
    assert told() == [payer.email]


def test_nobody_is_told_before_the_end_or_of_a_cancellation_or_of_a_request(payer, vendor):
    makers.open_request(vendor)
    payment = makers.payment(payer)
    with transaction():
        transitions.apply(transitions.locked(payment.id), Transition.CANCEL)
    paid(payer, simulate="blackout")
    assert told() == []


@each_outcome
def test_who_does_not_want_to_know_is_not_told(payer, vendor, metadata, notification):
    prefer(payer, {"notifications": {notification: False}})
    paid(payer, vendor, **metadata)
    assert told() == [vendor.email]
    prefer(vendor, {"notifications": {notification: False}})
    paid(payer, vendor, **metadata)
    assert told() == [vendor.email]


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
def test_who_has_not_said_no_is_told(payer, metadata, notification, preferences):
    prefer(payer, preferences)
    paid(payer, **metadata)
    assert told() == [payer.email]


def test_one_preference_says_nothing_of_the_other(payer):
    prefer(payer, {"notifications": {"paymentFailed": False}})
    paid(payer)
    assert told() == [payer.email]
    paid(payer, simulate="decline")
    assert told() == [payer.email]
    assert profile.wants_notification(payer.id, "paymentCompleted")


def test_a_closed_account_is_told_nothing(payer, vendor):
    User.update(active=False).where(User.id == payer.id).execute()
    paid(payer, vendor)
    assert told() == [vendor.email]


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [("12.5", "USD", "12.50 USD"), ("500", "JPY", "500 JPY"), ("99999999.99", "EUR", "99999999.99 EUR")],
)
def test_a_letter_says_how_much_in_the_currencys_own_decimals(payer, vendor, amount, currency, shown):
    # Only who has proved the address is called by name.
    User.update(email_verified=True).where(User.id.in_([payer.id, vendor.id])).execute()
    payment = paid(payer, vendor, amount=amount, currency=currency, description="Two chairs & a table")
    for user, happened in (
        (payer, f"your payment of {shown} went through."),
        (vendor, f"you were paid {shown}."),
    ):
        letter = letter_to(user)
        assert letter["Subject"] == f"Payment of {shown} completed"
        for kind, about in (("plain", "Two chairs & a table"), ("html", "Two chairs &amp; a table")):
            text = text_of(letter, kind)
            assert f"Hello {user.name}, {happened}" in text
            assert f"Payment {payment.id}: {about}." in text


def test_a_letter_of_a_failure_says_why_and_that_no_money_was_taken(payer, vendor):
    paid(payer, vendor, simulate="decline:insufficient_funds")
    for user, whose in ((payer, "your payment"), (vendor, "a payment to you")):
        letter = letter_to(user)
        assert letter["Subject"] == "Payment of 12.50 USD failed"
        text = text_of(letter)
        assert f"{whose} of 12.50 USD failed, and no money was taken." in text
        assert "The payment was declined: insufficient funds." in text


@pytest.mark.parametrize(
    "words",
    [
        "Pay again: https://evil.example/pay",
        "WWW.evil.example",
        "//evil.example",
        # Most mailboxes make links of these, too.
        "me@evil.example",
        "Pay at evil.example now",
        "Pay at evil24.example now",
    ],
)
def test_somebody_elses_words_are_nothing_to_click_on(payer, vendor, words):
    payment = paid(payer, vendor, description=words)
    for kind in ("plain", "html"):
        text = text_of(letter_to(vendor), kind)
        assert "evil" not in text.lower()
        assert f"Payment {payment.id}." in text


@pytest.mark.parametrize("words", ["12.50 EUR for 2.5 kg", "No. 7 of 9.", "Smith & Sons, e. V.", "a < b > c"])
def test_other_words_are_told(payer, vendor, words):
    paid(payer, vendor, description=words)
    assert f": {words}." in text_of(letter_to(vendor))


@pytest.mark.parametrize("code", ["https://evil.example/pay", "www.evil.example", "evil.example"])
def test_nor_is_a_psps_code(payer, vendor, code):
    paid(payer, vendor, simulate=f"decline:{code}")
    assert "evil" not in text_of(letter_to(vendor))


def test_somebody_elses_words_are_short_and_on_one_line(payer, vendor):
    payment = paid(payer, vendor, description="Two\r\nchairs\n\nBcc: all " + "x" * 400)
    [line] = [line for line in text_of(letter_to(vendor)).splitlines() if str(payment.id) in line]
    assert line.startswith(f"Payment {payment.id}: Two chairs Bcc: all xxx")
    assert line.endswith("x.")
    assert len(line) < 160
    assert letter_to(vendor)["Bcc"] is None


@each_outcome
def test_a_letter_that_is_sent_again_is_the_same_letter(payer, vendor, metadata, notification):
    payment = paid(payer, vendor, **metadata)
    ids = {letter["Message-ID"] for letter in mailbox}
    assert len(ids) == 2
    again(payer.id, payment)
    again(vendor.id, payment)
    assert len(mailbox) == 4
    assert {letter["Message-ID"] for letter in mailbox} == ids
    paid(payer, vendor, **metadata)
    assert len({letter["Message-ID"] for letter in mailbox}) == 4


def again(user_id: UUID, payment: Payment) -> None:
    """The worker died after it had sent the letter, and before it wrote that down."""
    with transaction():
        enqueue(mail.notify_payment_ended.job(user_id, payment.id))
    work()


def test_an_answer_of_the_psp_that_comes_twice_is_told_once(payer, vendor):
    paid(payer, vendor, simulate="duplicate")
    assert told() == sorted([payer.email, vendor.email])
