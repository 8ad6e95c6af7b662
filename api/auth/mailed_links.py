"""The static pages that mailed links lead to when no frontend is configured."""

from pathlib import Path
from string import Template

from falcon import Request, Response

from api.http import etag
from api.http.operation import RawOperation

_PAGES = Path(__file__).with_name("pages")
_FRAME = Template((_PAGES / "frame.html").read_text())


def _page(title: str, form: str) -> bytes:
    return _FRAME.substitute(title=title, form=(_PAGES / form).read_text().rstrip()).encode()


_VERIFY_EMAIL = _page("Confirm your e-mail address", "verify-email.html")
_RESET_PASSWORD = _page("Choose a new password", "reset-password.html")
_SCRIPT = (_PAGES / "mailed-link.js").read_bytes()


class VerifyEmailPage:
    """GET /verify-email."""

    @RawOperation(name="getVerifyEmailPage", media="text/html", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the page that verifies an e-mail address.

        Mails link to this page. Its button sends `POST /api/auth/verify-email`.
        """
        etag.send(req, resp, _VERIFY_EMAIL, "text/html; charset=utf-8")


class ResetPasswordPage:
    """GET /reset-password."""

    @RawOperation(name="getResetPasswordPage", media="text/html", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the page that resets a password.

        Mails link to this page. Its form sends `POST /api/auth/reset-password`.
        """
        etag.send(req, resp, _RESET_PASSWORD, "text/html; charset=utf-8")


class MailedLinkScript:
    """GET /mailed-link.js."""

    @RawOperation(name="getMailedLinkScript", media="text/javascript", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the script of the pages that mailed links lead to."""
        etag.send(req, resp, _SCRIPT, "text/javascript; charset=utf-8")
