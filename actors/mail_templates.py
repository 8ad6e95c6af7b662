"""What the letters say, in plain text and in HTML."""

import re
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class MailMessage:
    """A subject, some paragraphs, and perhaps a link with what it says."""

    subject: str
    paragraphs: tuple[str, ...]
    link: tuple[str, str] | None = None

    def text(self) -> str:
        """As plain text."""
        link = [f"{self.link[0]}:\n{self.link[1]}"] if self.link else []
        return "\n\n".join([self.paragraphs[0], *link, *self.paragraphs[1:]]) + "\n"

    def html(self) -> str:
        """As a page without a style sheet, a picture or a script. ASCII: the rest is written as entities."""
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


# What a mail program makes a link of: an address with a scheme or without, in digits too; a number to call.
_DOT = "[.\u3002\uff0e\uff61]"
_LINK = re.compile(
    rf"/|@|\w{_DOT}\w*[^\W\d_]|\d+(?:{_DOT}\d+){{3}}|\+\s*\d[\d ()-]{{5}}"
    r"|\b(?:javascript|data|tel|sms|mailto|callto|https?)\s*:",
    re.IGNORECASE,
)


def _words(text: str, length: int) -> str:
    """Somebody else's text in our letter: short, on one line, and nothing to click on."""
    words = " ".join(text.split())[:length]
    return "" if _LINK.search(words) else words


def _hello(name: str) -> str:
    return f"Hello {_words(name, 60)}".strip()


@dataclass(frozen=True)
class Payment:
    """What a letter says of a payment: `12.50 EUR`, what it was for, its id, and why it failed, if it did."""

    amount: str
    description: str | None
    id: str
    failure: str | None

    def about(self) -> str:
        """Which payment this is."""
        words = _words(self.description or "", 100)
        return f"Payment {self.id}" + (f": {words}" if words else "") + "."


def verify_email(name: str, link: str) -> MailMessage:
    """To somebody new, or who asked for it again."""
    return MailMessage(
        "Confirm your e-mail address",
        (
            f"{_hello(name)}, please confirm that this is your e-mail address.",
            "The link works for 24 hours. If you have not opened an account, do nothing.",
        ),
        ("Confirm", link),
    )


def reset_password(name: str, link: str) -> MailMessage:
    """To somebody who forgot."""
    return MailMessage(
        "Choose a new password",
        (
            f"{_hello(name)}, somebody asked for a new password for your account.",
            "The link works once, for 30 minutes. If it was not you, do nothing: your password stays.",
        ),
        ("Choose a new password", link),
    )


def password_changed(name: str) -> MailMessage:
    """To whoever should know, in case it was somebody else."""
    return MailMessage(
        "Your password was changed",
        (
            f"{_hello(name)}, the password of your account was changed, and your other sessions were ended.",
            "If it was not you, ask for a new password at once.",
        ),
    )


def address_changed() -> MailMessage:
    """To the old address, which no longer belongs to the account: it does not say which one does."""
    return MailMessage(
        "The e-mail address of your account was changed",
        (
            "Hello, the account that had this e-mail address has another one now: no more letters come here.",
            "If you did not ask for that, tell whoever runs this service.",
        ),
    )


def payment_completed(name: str, payment: Payment, *, paid_to_you: bool) -> MailMessage:
    """To the payer, and to the vendor who asked for the money."""
    happened = (
        f"you were paid {payment.amount}" if paid_to_you else f"your payment of {payment.amount} went through"
    )
    return MailMessage(
        f"Payment of {payment.amount} completed", (f"{_hello(name)}, {happened}.", payment.about())
    )


def payment_failed(name: str, payment: Payment, *, paid_to_you: bool) -> MailMessage:
    """To the payer, and to the vendor who asked for the money."""
    whose = "a payment to you" if paid_to_you else "your payment"
    happened = f"{_hello(name)}, {whose} of {payment.amount} failed, and no money was taken."
    why = (payment.failure,) if payment.failure else ()
    return MailMessage(f"Payment of {payment.amount} failed", (happened, *why, payment.about()))
