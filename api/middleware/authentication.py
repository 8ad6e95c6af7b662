"""Gate 7: who is asking, and whether their role may."""

from typing import Any, cast

from falcon import Request, Response

from actors import audit
from actors.jobs import transaction
from api.http.operation import operation_of
from api.security.permissions import Caller, Forbidden, Permission
from api.security.tokens import Reason, Tokens, Unauthorized
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
        if operation is None or operation.may is Permission.ANYONE:
            return
        caller = self._identify(req)
        req.context.caller = caller
        where = request_context.current()
        request_context.set(
            request_context.Origin(where.request_id, caller.user_id, where.ip_address, where.user_agent)
        )
        if not caller.may(operation.may):
            refuse(caller, operation.may)

    def _identify(self, req: Request) -> Caller:
        claims = self._tokens.read(bearer(req))
        live = sessions.live(claims.session_id)
        if live is None or live["user_id"] != claims.user_id:
            raise Unauthorized(Reason.REVOKED)
        if self._tokens.ends_at(live["created_at"]) <= times.now():
            raise Unauthorized(Reason.EXPIRED)
        return Caller(claims.user_id, live["email"], Role(live["role"]), claims.session_id)


def bearer(req: Request) -> str:
    """The token that a request brings. Raises Unauthorized."""
    scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized(Reason.MISSING)
    return token.strip()


def of(req: Request) -> Caller:
    """Who is asking; only where the route's permission is more than ANYONE."""
    return cast(Caller, req.context.caller)


def refuse(caller: Caller, wanted: Permission) -> None:
    """Writes down that a role was not enough, and raises Forbidden."""
    with transaction():
        audit.note(audit.Action.ACCESS_REFUSED, details={"role": caller.role, "permission": wanted})
    raise Forbidden(role=caller.role)
