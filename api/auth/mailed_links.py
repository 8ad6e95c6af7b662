"""The pages that mailed links lead to where there is no frontend: static, and from our own origin alone."""

from pathlib import Path

from falcon import Request, Response

from api.http.etag import tag
from api.http.operation import raw_operation

_PAGES = Path(__file__).with_name("pages")


class _Static:
    """A file that is read once."""

    file: str
    media: str

    def __init__(self) -> None:
        self._content = (_PAGES / self.file).read_bytes()

    def _answer(self, req: Request, resp: Response) -> None:
        resp.content_type = self.media
        resp.data = self._content
        tag(req, resp)


class VerifyEmailPage(_Static):
    """GET /verify-email"""

    file, media = "verify-email.html", "text/html; charset=utf-8"

    @raw_operation(name="getVerifyEmailPage", media="text/html", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the page whose button verifies an e-mail address."""
        self._answer(req, resp)


class ResetPasswordPage(_Static):
    """GET /reset-password"""

    file, media = "reset-password.html", "text/html; charset=utf-8"

    @raw_operation(name="getResetPasswordPage", media="text/html", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the page that asks for a new password."""
        self._answer(req, resp)


class MailedLinkScript(_Static):
    """GET /mailed-link.js"""

    file, media = "mailed-link.js", "text/javascript; charset=utf-8"

    @raw_operation(name="getMailedLinkScript", media="text/javascript", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get the script of the pages that mailed links lead to."""
        self._answer(req, resp)
