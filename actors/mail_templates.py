"""The templates of all mails, in plain text and in HTML."""

import re
from html import escape

from db.core import money
from db.payment_mails import PaymentMail
from db.states import PaymentStatus


class MailMessage:
    """A message: a subject, paragraphs, and for some a link with its label."""

    def __init__(self, subject: str, *paragraphs: str, link: tuple[str, str] | None = None) -> None:
        self.subject, self.paragraphs, self.link = subject, paragraphs, link

    def text(self) -> str:
        """Renders the message as plain text."""
        link = [f"{self.link[0]}:\n{self.link[1]}"] if self.link else []
        return "\n\n".join([self.paragraphs[0], *link, *self.paragraphs[1:]]) + "\n"

    def html(self) -> str:
        """Renders the message as HTML in ASCII, with entities; without style sheets, images or scripts."""
        first, *others = (f"<p>{escape(paragraph)}</p>" for paragraph in self.paragraphs)
        link = [f'<p><a href="{escape(self.link[1])}">{escape(self.link[0])}</a></p>'] if self.link else []
        page = "\n".join(
            [
                f'<!doctype html>\n<html lang="en"><head><title>{escape(self.subject)}</title></head><body>',
                *(first, *link, *others),
                "</body></html>\n",
            ]
        )
        return page.encode("ascii", "xmlcharrefreplace").decode()


# What mail programs turn into links: addresses with and without a scheme, IP addresses, telephone numbers.
_DOT = "[.\u3002\uff0e\uff61]"
_LINK = re.compile(
    rf"/|@|\w{_DOT}\w*[^\W\d_]|\d+(?:{_DOT}\d+){{3}}|\+\s*\d[\d ()-]{{5}}"
    r"|\b(?:javascript|data|tel|sms|mailto|callto|https?)\s*:",
    re.IGNORECASE,
)


def _sanitized(text: str, max_length: int) -> str:
    """Returns a text of another user on one line, shortened; an empty text if it contains a link."""
    line = " ".join(text.split())[:max_length]
    return "" if _LINK.search(line) else line


def _greeting(name: str) -> str:
    return f"Hello {_sanitized(name, 60)}".strip()


def verify_email(name: str, link: str) -> MailMessage:
    """Returns the mail that asks a user to verify the e-mail address."""
    return MailMessage(
        "Confirm your e-mail address",
        f"{_greeting(name)}, please confirm that this is your e-mail address.",
        "The link works for 24 hours. If you have not opened an account, do nothing.",
        link=("Confirm", link),
    )


def reset_password(name: str, link: str) -> MailMessage:
    """Returns the mail with the link to choose a new password."""
    return MailMessage(
        "Choose a new password",
        f"{_greeting(name)}, somebody asked for a new password for your account.",
        "The link works once, for 30 minutes. If it was not you, do nothing: your password stays.",
        link=("Choose a new password", link),
    )


def password_changed(name: str) -> MailMessage:
    """Returns the mail that warns a user that the password was changed."""
    return MailMessage(
        "Your password was changed",
        f"{_greeting(name)}, the password of your account was changed, and your other sessions were ended.",
        "If it was not you, ask for a new password at once.",
    )


def address_changed() -> MailMessage:
    """Returns the mail that warns the previous address of an account, without naming the new one."""
    return MailMessage(
        "The e-mail address of your account was changed",
        "Hello, the account that had this e-mail address has another one now: no more mail is sent here.",
        "If you did not ask for that, contact the operator of this service.",
    )


def payment_ended(name: str, payment: PaymentMail) -> MailMessage:
    """Returns the mail that says to the payer or the payee that a payment completed or failed."""
    amount = f"{money.text(payment.amount, payment.currency)} {payment.currency}"
    description = _sanitized(payment.description or "", 100)
    reference = f"Payment {payment.payment_id}" + (f": {description}" if description else "") + "."
    if payment.status == PaymentStatus.COMPLETED:
        happened = f"you were paid {amount}" if payment.to_payee else f"your payment of {amount} went through"
        return MailMessage(f"Payment of {amount} completed", f"{_greeting(name)}, {happened}.", reference)
    whose = "a payment to you" if payment.to_payee else "your payment"
    happened = f"{_greeting(name)}, {whose} of {amount} failed, and no money was taken."
    why = (payment.failure_message,) if payment.failure_message else ()
    return MailMessage(f"Payment of {amount} failed", happened, *why, reference)
