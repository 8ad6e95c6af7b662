"""The sessions of a user, in an administrator's hands."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from falcon import Request

from actors import audit
from actors.jobs import transaction
from api import user_sessions
from api.http.fields import PageQuery
from api.http.operation import operation
from api.middleware import authentication
from api.security.permissions import Permission
from api.security.tokens import Tokens
from db import sessions, users
from db.core.errors import NotFound


@dataclass
class UserSessions:
    """GET, DELETE /admin/users/:id/sessions"""

    tokens: Tokens

    @operation(
        Permission.OPERATE,
        "The user's sessions.",
        name="listUserSessions",
        query=PageQuery,
        response=user_sessions.SessionPage,
    )
    def on_get(self, req: Request, user_id: UUID, query: PageQuery) -> dict[str, Any]:
        """List the sessions of a user that go on, newest first."""
        if users.get(user_id) is None:
            raise NotFound(thing="user")
        return user_sessions.page(
            self.tokens, user_id, query, current=authentication.caller_of(req).session_id
        )

    @operation(Permission.OPERATE, "Sessions ended.", name="endUserSessions")
    def on_delete(self, _req: Request, user_id: UUID) -> None:
        """End every session of a user: each access and refresh token is dead at the next request."""
        with transaction():
            if users.locked(user_id) is None:
                raise NotFound(thing="user")
            _tell(user_id, everywhere=True, details={"sessions": sessions.end_all(user_id)})


class UserSession:
    """DELETE /admin/users/:id/sessions/:id"""

    @operation(Permission.OPERATE, "Session ended.", name="endUserSession")
    def on_delete(self, _req: Request, user_id: UUID, session_id: UUID) -> None:
        """End one session of a user."""
        with transaction():
            if not sessions.end(session_id, user_id=user_id):
                raise NotFound(thing="session")
            _tell(user_id, everywhere=False, details={"sessionId": str(session_id)})


def _tell(user_id: UUID, *, everywhere: bool, details: dict[str, Any]) -> None:
    audit.record(audit.AuditAction.USER_SESSIONS_ENDED, resource=("user", user_id), details=details)
    user_sessions.emit_session_end(user_id, everywhere=everywhere)
