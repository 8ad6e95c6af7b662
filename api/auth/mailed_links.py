"""The static pages that mailed links lead to when no frontend is configured."""

from pathlib import Path
from string import Template

from falcon import Request, Response

from api.http.etag import tag
from api.http.operation import RawOperation

_PAGES = Path(__file__).with_name("pages")
_FRAME = Template((_PAGES / "frame.html").read_text())


class _Static:
    """A resource whose content never changes."""

    media_type = "text/html; charset=utf-8"

    def __init__(self, content: str) -> None:
        self._content = content.encode()

    def _send(self, req: Request, resp: Response) -> None:
        resp.content_type = self.media_type
        resp.data = self._content
        tag(req, resp)


class VerifyEmailPage(_Static):
    """GET /verify-email."""

    def __init__(self) -> None:
        super().__init__(_page("Confirm your e-mail address", "verify-email.html"))

    @RawOperation(name="getVerifyEmailPage", media="text/html", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the page that verifies an e-mail address.

        Mails link to this page. Its button sends `POST /api/auth/verify-email`.
        """
        self._send(req, resp)


class ResetPasswordPage(_Static):
    """GET /reset-password."""

    def __init__(self) -> None:
        super().__init__(_page("Choose a new password", "reset-password.html"))

    @RawOperation(name="getResetPasswordPage", media="text/html", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the page that resets a password.

        Mails link to this page. Its form sends `POST /api/auth/reset-password`.
        """
        self._send(req, resp)


class MailedLinkScript(_Static):
    """GET /mailed-link.js."""

    media_type = "text/javascript; charset=utf-8"

    def __init__(self) -> None:
        super().__init__((_PAGES / "mailed-link.js").read_text())

    @RawOperation(name="getMailedLinkScript", media="text/javascript", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the script of the pages that mailed links lead to."""
        self._send(req, resp)


def _page(title: str, form: str) -> str:
    return _FRAME.substitute(title=title, form=(_PAGES / form).read_text().rstrip())
