"""Gate 7: who is asking, and whether their role may."""

from typing import Any, cast

from falcon import Request, Response

from actors import audit
from actors.jobs import transaction
from api.http.operation import operation_of
from api.security.permissions import Caller, Forbidden, Permission
from api.security.tokens import Tokens, Unauthorized, UnauthorizedReason
from db import sessions
from db.core import request_context, times
from db.users import Role


class Callers:
    """Reads the access token, asks the database who that is now, and holds the role against the policy."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def process_resource(self, req: Request, _resp: Response, resource: Any, _params: Any) -> None:
        """Lets the caller pass. Raises Unauthorized or Forbidden."""
        operation = operation_of(resource, req)
        if operation is None or operation.permission is Permission.ANYONE:
            return
        caller = self._identify(req)
        req.context.caller = caller
        where = request_context.current()
        request_context.bind(
            request_context.RequestContext(
                where.request_id, caller.user_id, where.ip_address, where.user_agent
            )
        )
        if not caller.may(operation.permission):
            deny(caller, operation.permission)

    def _identify(self, req: Request) -> Caller:
        claims = self._tokens.verify(bearer(req))
        live = sessions.find_live(claims.session_id)
        if live is None or live["user_id"] != claims.user_id:
            raise Unauthorized(UnauthorizedReason.REVOKED)
        if self._tokens.session_end(live["created_at"]) <= times.now():
            raise Unauthorized(UnauthorizedReason.EXPIRED)
        return Caller(claims.user_id, live["email"], Role(live["role"]), claims.session_id)


def bearer(req: Request) -> str:
    """The token that a request brings. Raises Unauthorized."""
    scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized(UnauthorizedReason.MISSING)
    return token.strip()


def caller_of(req: Request) -> Caller:
    """Who is asking; only where the route's permission is more than ANYONE."""
    return cast(Caller, req.context.caller)


def deny(caller: Caller, wanted: Permission) -> None:
    """Writes down that a role was not enough, and raises Forbidden."""
    with transaction():
        audit.record(audit.AuditAction.ACCESS_REFUSED, details={"role": caller.role, "permission": wanted})
    raise Forbidden(role=caller.role)
