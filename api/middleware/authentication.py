"""Middleware 8: gives an operation its database connection and its caller, or refuses the request."""

from dataclasses import replace
from typing import Any, NoReturn, cast

from falcon import Request, Response

from actors import audit
from actors.jobs import transaction
from api.http import admission
from api.http.operation import Operation, operation_of
from api.security.permissions import Caller, Forbidden, Permission
from api.security.tokens import Tokens, Unauthorized, UnauthorizedReason, redeem_ticket
from db import config, live_sessions
from db.config import ConfigKey
from db.core import request_context, times
from db.core.errors import DomainError, ErrorCode
from db.live_sessions import LiveSession
from db.users import Role


class ReadOnly(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=30):
    """The service is in maintenance: data can be read and not changed."""


class Authentication:
    """Verifies the token, finds the session and its user, checks the permission and the maintenance mode.

    The connection is taken only here, after routing: a request that was refused before costs none. A role, a
    suspension or the end of a session takes effect while the token is valid: at the next request on this
    machine, within a second on others.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def process_resource(self, req: Request, _resp: Response, resource: Any, _params: Any) -> None:
        """Admits the request. Raises a database error, Unauthorized, Forbidden or ReadOnly.

        A raw operation has no caller, and takes its own connection.
        """
        operation = operation_of(resource, req)
        if operation is None:
            return
        admission.connect()
        if operation.permission is not Permission.ANYONE:
            caller = req.context.caller = self._identify(req, operation)
            request_context.bind(replace(request_context.current(), user_id=caller.user_id))
            if not caller.may(operation.permission):
                deny(caller.role, operation.permission)
        if not operation.allowed_in_maintenance and req.method not in ("GET", "HEAD"):
            refuse_if_read_only()

    def process_response(self, _req: Request, _resp: Response, _resource: Any, _succeeded: bool) -> None:
        admission.disconnect()

    def _identify(self, req: Request, operation: Operation) -> Caller:
        """Returns the caller, by the access token or by the ticket of an event stream. Raises Unauthorized.

        Keeps the session in `req.context.session`.
        """
        if operation.streams and req.auth is None and (ticket := req.get_param("ticket")):
            user_id, session_id = redeem_ticket(ticket)
        else:
            claims = self._tokens.verify(bearer_token(req))
            user_id, session_id = claims.user_id, claims.session_id
        if operation.reads_user:
            live = live_sessions.read(session_id)
        else:
            live = live_sessions.find(session_id, user_id)
        if live is None or live.id != user_id:
            raise Unauthorized(UnauthorizedReason.REVOKED)
        if self._tokens.session_end(live.began_at) <= times.now():
            raise Unauthorized(UnauthorizedReason.EXPIRED)
        req.context.session = live
        return Caller(live.id, live.email, Role(live.role), session_id)


def bearer_token(req: Request) -> str:
    """Returns the token of the Authorization header. Raises Unauthorized."""
    scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized(UnauthorizedReason.MISSING)
    return token.strip()


def caller_of(req: Request) -> Caller:
    """Returns the caller of a request. A route that is open to ANYONE has none."""
    return cast(Caller, req.context.caller)


def session_of(req: Request) -> LiveSession:
    """Returns the caller's session with its user, read for this request by an operation that `reads_user`."""
    return cast(LiveSession, req.context.session)


def deny(role: Role, permission: Permission) -> NoReturn:
    """Audits that the caller's role lacks a permission, and raises Forbidden."""
    with transaction():
        audit.record(audit.AuditAction.ACCESS_REFUSED, details={"role": role, "permission": permission})
    raise Forbidden(role=role)


def refuse_if_read_only() -> None:
    """Raises ReadOnly while `maintenance.readOnly` is set."""
    if config.value(ConfigKey.MAINTENANCE_READ_ONLY):
        raise ReadOnly({"reason": "read_only"})
