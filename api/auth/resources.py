"""The auth routes."""

from typing import Any

from falcon import Request

from actors import snapshots
from api.auth import shapes
from api.auth.sessions import Sessions
from api.gateway import caller
from api.gateway.operation import operation
from api.policies import Permission
from db import auth
from db.auth import Role
from db.fault import NotFound


class Register:
    """POST /auth/register"""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @operation(Permission.ANYONE, "Welcome.", takes=shapes.Register, status=201)
    def on_post(self, _req: Request, wish: shapes.Register) -> dict[str, Any]:
        """Opens an account and signs it in."""
        return self._sessions.register(
            email=wish.email, password=wish.password, name=wish.name, role=Role(wish.role)
        )


class Login:
    """POST /auth/login"""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @operation(Permission.ANYONE, "Signed in.", takes=shapes.Login)
    def on_post(self, _req: Request, wish: shapes.Login) -> dict[str, Any]:
        """Signs in."""
        return self._sessions.login(email=wish.email, password=wish.password)


class Refresh:
    """POST /auth/refresh"""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @operation(Permission.ANYONE, "Tokens renewed.", takes=shapes.Refresh)
    def on_post(self, _req: Request, wish: shapes.Refresh) -> dict[str, Any]:
        """Spends a refresh token for the next pair."""
        return self._sessions.refresh(wish.refresh_token)


class Logout:
    """POST /auth/logout"""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @operation(Permission.SIGNED_IN, "Signed out.", takes=shapes.Logout)
    def on_post(self, req: Request, wish: shapes.Logout) -> None:
        """Ends the caller's session, or all of them."""
        who = caller.of(req)
        self._sessions.logout(who.user_id, who.session_id, everywhere=wish.everywhere)


class Me:
    """GET /auth/me"""

    @operation(Permission.SIGNED_IN, "You.", one=True)
    def on_get(self, req: Request) -> dict[str, Any]:
        """The caller."""
        user = auth.user(caller.of(req).user_id)
        if user is None:
            raise NotFound(thing="account")
        return snapshots.user(user)
