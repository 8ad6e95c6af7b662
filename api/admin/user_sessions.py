"""The sessions of a user, in an administrator's hands."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from falcon import Request

from actors import audit
from actors.verbs import transaction
from api import sessions
from api.gateway import caller
from api.gateway.operation import operation
from api.policies import Permission
from api.shapes import PageQuery
from api.tokens import Tokens
from db import auth
from db.fault import NotFound


@dataclass
class UserSessions:
    """GET, DELETE /admin/users/:id/sessions"""

    tokens: Tokens

    @operation(
        Permission.OPERATE,
        "The user's sessions.",
        name="listUserSessions",
        asks=PageQuery,
        gives=sessions.Sessions,
    )
    def on_get(self, req: Request, user_id: UUID, wish: PageQuery) -> dict[str, Any]:
        """List the sessions of a user that go on, newest first."""
        if auth.user(user_id) is None:
            raise NotFound(thing="user")
        return sessions.page(self.tokens, user_id, wish, current=caller.of(req).session_id)

    @operation(Permission.OPERATE, "Sessions ended.", name="endUserSessions")
    def on_delete(self, _req: Request, user_id: UUID) -> None:
        """End every session of a user: each access and refresh token is dead at the next request."""
        with transaction():
            if auth.locked_user(user_id) is None:
                raise NotFound(thing="user")
            _tell(user_id, everywhere=True, details={"sessions": auth.end_sessions(user_id)})


class UserSession:
    """DELETE /admin/users/:id/sessions/:id"""

    @operation(Permission.OPERATE, "Session ended.", name="endUserSession")
    def on_delete(self, _req: Request, user_id: UUID, session_id: UUID) -> None:
        """End one session of a user."""
        with transaction():
            if not auth.end_session(session_id, user_id=user_id):
                raise NotFound(thing="session")
            _tell(user_id, everywhere=False, details={"sessionId": str(session_id)})


def _tell(user_id: UUID, *, everywhere: bool, details: dict[str, Any]) -> None:
    audit.note(audit.Action.USER_SESSIONS_ENDED, resource=("user", user_id), details=details)
    sessions.announce_end(user_id, everywhere=everywhere)
