"""The auth routes."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from falcon import Request

from actors import snapshots
from api import user_sessions
from api.accounts import EmailTaken
from api.auth import answers, schemas
from api.auth.credentials import Credentials
from api.auth.sign_in import InvalidCredentials, Sessions, TokenReused
from api.auth.sign_in_failures import TooManyFailures
from api.http.fields import PageQuery
from api.http.operation import operation
from api.http.responses import User
from api.middleware import authentication, maintenance
from api.security.permissions import Permission
from api.security.tokens import Unauthorized
from db import users
from db.core.errors import NotFound
from db.users import Role


@dataclass
class Register:
    """POST /auth/register"""

    sessions: Sessions

    @operation(
        Permission.ANYONE,
        "Welcome.",
        name="register",
        body=schemas.Register,
        response=answers.AuthResult,
        errors=(EmailTaken,),
        # Nobody's: the demo users keep their accounts when it is tried.
        examples={
            "customer": {
                "email": "robin@example.com",
                "password": "four boats on a lake",
                "name": "Robin Doe",
            },
            "vendor": {
                "email": "kim@example.com",
                "password": "two chairs by a door",
                "name": "Kim Roe",
                "role": "VENDOR",
            },
        },
        status=201,
    )
    def on_post(self, _req: Request, body: schemas.Register) -> dict[str, Any]:
        """Opens an account and signs it in."""
        return self.sessions.register(
            email=body.email, password=body.password, name=body.name, role=Role(body.role)
        )


@dataclass
class Login:
    """POST /auth/login"""

    sessions: Sessions

    @operation(
        Permission.ANYONE,
        "Signed in.",
        name="login",
        allowed_in_maintenance=True,
        body=schemas.Login,
        response=answers.AuthResult,
        errors=(InvalidCredentials, TooManyFailures),
    )
    def on_post(self, req: Request, body: schemas.Login) -> dict[str, Any]:
        """Signs in.

        An account that keeps failing answers ever more slowly (429). A client that has signed in to it before
        is not slowed down by others: it is known by its network, or by a refresh token of an earlier session,
        also a spent or expired one, that it sends as `Authorization: Bearer …`.
        """
        try:
            token = authentication.bearer(req)
        except Unauthorized:
            token = ""
        return self.sessions.login(email=body.email, password=body.password, refresh_token=token)


@dataclass
class Refresh:
    """POST /auth/refresh"""

    sessions: Sessions

    @operation(
        Permission.ANYONE,
        "Tokens renewed.",
        name="refresh",
        allowed_in_maintenance=True,
        body=schemas.Refresh,
        response=answers.AuthResult,
        errors=(Unauthorized, TokenReused),
    )
    def on_post(self, _req: Request, body: schemas.Refresh) -> dict[str, Any]:
        """Spends a refresh token for the next pair."""
        return self.sessions.refresh(body.refresh_token)


@dataclass
class Logout:
    """POST /auth/logout"""

    sessions: Sessions

    @operation(
        Permission.SIGNED_IN, "Signed out.", name="logout", allowed_in_maintenance=True, body=schemas.Logout
    )
    def on_post(self, req: Request, body: schemas.Logout) -> None:
        """Ends the caller's session, or all of them."""
        self.sessions.logout(
            authentication.caller_of(req), everywhere=body.everywhere, refresh_token=body.refresh_token
        )


class Me:
    """GET /auth/me"""

    @operation(Permission.SIGNED_IN, "You.", name="getMe", response=User, etag=True)
    def on_get(self, req: Request) -> dict[str, Any]:
        """The caller."""
        user = users.get(authentication.caller_of(req).user_id)
        if user is None:
            raise NotFound(thing="account")
        return snapshots.user(user)


@dataclass
class MySessions:
    """GET /auth/sessions"""

    sessions: Sessions

    @operation(
        Permission.SIGNED_IN,
        "Your sessions.",
        name="listSessions",
        query=PageQuery,
        response=user_sessions.Sessions,
    )
    def on_get(self, req: Request, query: PageQuery) -> dict[str, Any]:
        """The caller's sessions that go on, newest first."""
        who = authentication.caller_of(req)
        return user_sessions.page(self.sessions.tokens, who.user_id, query, current=who.session_id)


@dataclass
class OneSession:
    """DELETE /auth/sessions/:id"""

    sessions: Sessions

    @operation(Permission.SIGNED_IN, "Session ended.", name="endSession")
    def on_delete(self, req: Request, session_id: UUID) -> None:
        """Ends one of the caller's sessions."""
        self.sessions.end(authentication.caller_of(req), session_id)


@dataclass
class Password:
    """PUT /auth/password"""

    credentials: Credentials

    @operation(
        Permission.SIGNED_IN,
        "Password changed.",
        name="changePassword",
        body=schemas.ChangePassword,
        # Not the demo users' password: it is not changed when this is tried.
        examples={
            "passwords": {"currentPassword": "the password so far", "newPassword": "four boats on a lake"}
        },
        errors=(InvalidCredentials, TooManyFailures),
    )
    def on_put(self, req: Request, body: schemas.ChangePassword) -> None:
        """Changes the caller's password."""
        self.credentials.change_password(
            authentication.caller_of(req), current=body.current_password, new=body.new_password
        )


@dataclass
class ForgotPassword:
    """POST /auth/forgot-password"""

    credentials: Credentials

    @operation(
        Permission.ANYONE,
        "If there is an account with this address, a letter is on its way.",
        name="forgotPassword",
        body=schemas.ForgotPassword,
    )
    def on_post(self, _req: Request, body: schemas.ForgotPassword) -> None:
        """Mails a link to choose a new password."""
        self.credentials.forgot(body.email)


@dataclass
class ResetPassword:
    """POST /auth/reset-password"""

    credentials: Credentials

    @operation(Permission.ANYONE, "Password changed.", name="resetPassword", body=schemas.ResetPassword)
    def on_post(self, _req: Request, body: schemas.ResetPassword) -> None:
        """Sets a new password by a mailed link."""
        self.credentials.reset(token=body.token, new=body.new_password)


@dataclass
class VerifyEmail:
    """GET /auth/verify-email"""

    credentials: Credentials

    @operation(
        Permission.ANYONE,
        "E-mail address confirmed.",
        name="verifyEmail",
        query=schemas.VerifyEmail,
        response=answers.EmailVerification,
    )
    def on_get(self, req: Request, query: schemas.VerifyEmail) -> dict[str, bool]:
        """Verify an e-mail address by the token of a mailed link.

        Again with the same token: 200, as long as the address is the account's verified one. A HEAD changes
        nothing. The mails link to a page whose button sends the POST.
        """
        if req.method == "HEAD":
            self.credentials.could_verify(query.token)
        else:
            # The one GET that changes something.
            maintenance.refuse()
            self.credentials.verify_email(query.token)
        return {"emailVerified": True}

    @operation(
        Permission.ANYONE,
        "E-mail address confirmed.",
        name="verifyEmailByPost",
        body=schemas.VerifyEmailToken,
        response=answers.EmailVerification,
    )
    def on_post(self, _req: Request, body: schemas.VerifyEmailToken) -> dict[str, bool]:
        """Verify an e-mail address by the token of a mailed link.

        Again with the same token: 200, as long as the address is the account's verified one.
        """
        self.credentials.verify_email(body.token)
        return {"emailVerified": True}


@dataclass
class ResendVerification:
    """POST /auth/verify-email/resend"""

    credentials: Credentials

    @operation(
        Permission.SIGNED_IN,
        "A letter is on its way, unless the address is confirmed already.",
        name="resendVerification",
    )
    def on_post(self, req: Request) -> None:
        """Mails the link again."""
        self.credentials.resend(authentication.caller_of(req).user_id)
