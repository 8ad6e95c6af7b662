"""Errors under /console: the API's error responses, shown as pages."""

import json
from typing import Any

import falcon
from falcon import Request, Response

from api.console.client import ApiError
from api.console.rendering import Templates
from api.http import responses
from db.core.errors import ErrorCode

# What the reader of an error page can do.
_ADVICE = {
    ErrorCode.FORBIDDEN: "Sign in as a user whose role allows it.",
    ErrorCode.NOT_FOUND: "Check the address, or start again from the console's first page.",
    ErrorCode.METHOD_NOT_ALLOWED: "Go back and use the buttons of the page.",
    ErrorCode.RATE_LIMITED: "Wait a moment, then load the page again.",
    ErrorCode.SERVICE_UNAVAILABLE: "The page can be loaded again in a few seconds. Nothing was lost.",
    ErrorCode.INTERNAL_ERROR: "Load the page again. If it happens twice, search the logs for the request id.",
}
_OTHER_ADVICE = "Go back, correct the input, then send it again."


class ErrorPages:
    """Middleware 9: a browser that asks for a page gets an error as a page."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        if resp.content_type != falcon.MEDIA_JSON or not is_page(req.path):
            return
        error = json.loads(resp.data or b"{}").get("error")
        if error is None:
            return
        advice = _ADVICE.get(error["code"], _OTHER_ADVICE)
        resp.content_type = "text/html; charset=utf-8"
        resp.data = self._templates.render(
            "error.html",
            error=error,
            status=resp.status_code,
            advice=advice,
            request_id=resp.get_header("X-Request-ID"),
            retry_after=resp.get_header("Retry-After"),
        ).encode()


def is_page(path: str) -> bool:
    """Returns whether a path is that of a page: of the console, or one that mails link to."""
    return (path + "/").startswith(("/console/", "/verify-email/", "/reset-password/"))


def install(app: falcon.App) -> None:  # type: ignore[type-arg]
    """Makes the app respond with the API's error where a page does not handle it."""
    app.add_error_handler(ApiError, _send_api_error)


def _send_api_error(_req: Request, resp: Response, error: ApiError, _params: dict[str, Any]) -> None:
    responses.refuse(resp, ErrorCode(error.code), error.message, error.details)
    if "retry-after" in error.headers:
        resp.set_header("Retry-After", error.headers["retry-after"])
