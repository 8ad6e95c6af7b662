"""The envelope: every answer is a success or an error in one of two shapes, whoever raised it."""

from typing import Any

import falcon
import structlog
from falcon import Request, Response
from pydantic_core import to_json

from api.security.tokens import Unauthorized
from db import postgres
from db.core.errors import DomainError, ErrorCode

log = structlog.get_logger(__name__)

# In seconds: how soon a caller should try again what failed for our sake.
_RETRY_AFTER = "1"

# What any address of ours may know.
_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"

# Falcon raises errors of its own (no route, no method, ...); each status has one code and one sentence.
_FALCON = {
    400: (ErrorCode.VALIDATION_ERROR, "The request is malformed."),
    404: (ErrorCode.NOT_FOUND, "There is nothing at this address."),
    405: (ErrorCode.METHOD_NOT_ALLOWED, "This address does not know this method."),
    411: (ErrorCode.LENGTH_REQUIRED, "The request must say how long its body is."),
    413: (ErrorCode.PAYLOAD_TOO_LARGE, "The body is too large."),
    415: (ErrorCode.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON in UTF-8."),
}


def success(data: Any, message: str) -> bytes:
    """The JSON of a success: `data` is a response model, which is serialised here, or None."""
    return to_json({"success": True, "data": data, "message": message})


def succeed(resp: Response, body: bytes, *, status: int) -> None:
    """Answers with the envelope of a success."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = body


def refuse(resp: Response, code: ErrorCode, message: str, details: dict[str, Any] | None = None) -> None:
    """Answers with an error."""
    resp.status = code.status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = to_json(
        {"success": False, "error": {"code": code, "message": message, "details": details or {}}}
    )


def install(app: falcon.App) -> None:  # type: ignore[type-arg]
    """Lets the app answer whatever is raised in the envelope."""
    app.add_error_handler(Exception, _crash)
    for unreachable in postgres.TRANSIENT_ERRORS:
        app.add_error_handler(unreachable, _unreachable)
    app.add_error_handler(falcon.HTTPError, _falcon)
    app.add_error_handler(DomainError, _fault)


def _fault(_req: Request, resp: Response, fault: DomainError, _params: dict[str, Any]) -> None:
    refuse(resp, fault.code, fault.message, fault.details)
    if isinstance(fault, Unauthorized):
        resp.set_header("WWW-Authenticate", "Bearer")
    if fault.retry_after is not None:
        resp.set_header("Retry-After", str(fault.retry_after))


def _falcon(req: Request, resp: Response, error: falcon.HTTPError, _params: dict[str, Any]) -> None:
    status = error.status_code
    if status == 400 and req.method not in falcon.HTTP_METHODS:
        # WEBSOCKET is a word of Falcon's own, refused before it looks for the address.
        status = 405
        resp.set_header("Allow", _METHODS)
    code, message = _FALCON.get(status, (None, ""))
    if code is None:
        raise error
    if error.headers:
        resp.set_headers(error.headers)
    refuse(resp, code, message)


def _unreachable(req: Request, resp: Response, error: Exception, _params: dict[str, Any]) -> None:
    log.error("the database did not answer", path=req.path, error=str(error))
    resp.set_header("Retry-After", _RETRY_AFTER)
    refuse(resp, ErrorCode.SERVICE_UNAVAILABLE, "The service is not available at the moment.")


def _crash(req: Request, resp: Response, error: Exception, _params: dict[str, Any]) -> None:
    log.error("a request crashed", path=req.path, exc_info=error)
    refuse(resp, ErrorCode.INTERNAL_ERROR, "Something went wrong on our side.")
