"""The routes under /api/auth."""

from dataclasses import dataclass
from uuid import UUID

from falcon import Request

from actors import snapshots
from api import user_sessions
from api.accounts import EmailTaken
from api.auth import schemas
from api.auth.credentials import Credentials
from api.auth.sign_in import InvalidCredentials, Sessions, TokenReused
from api.auth.throttle import TooManyFailures
from api.http.operation import Operation
from api.http.pages import PageQuery
from api.middleware import maintenance
from api.middleware.authentication import bearer_token, caller_of
from api.security.permissions import Permission
from api.security.tokens import Unauthorized
from db import users
from db.core.errors import NotFound


@dataclass
class Register:
    """POST /auth/register."""

    sessions: Sessions

    @Operation(
        Permission.ANYONE,
        "Account created.",
        name="register",
        errors=(EmailTaken,),
        # Not the demo users' addresses: those are taken wherever the documentation is tried out.
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
    def on_post(self, _req: Request, body: schemas.Registration) -> schemas.AuthResult:
        """Register an account.

        Creates the account, signs it in and mails a link that verifies the address.
        """
        return self.sessions.register(body)


@dataclass
class Login:
    """POST /auth/login."""

    sessions: Sessions

    @Operation(
        Permission.ANYONE,
        "Signed in.",
        name="login",
        allowed_in_maintenance=True,
        errors=(InvalidCredentials, TooManyFailures),
    )
    def on_post(self, req: Request, body: schemas.SignIn) -> schemas.AuthResult:
        """Sign in.

        Repeated failures at one account are answered with 429 for up to a minute. A client that has signed in
        to the account before has a count of its own, so that guesses of others do not slow it down: it is
        known by its network, or by a refresh token of an earlier session, also a spent or expired one, sent
        as `Authorization: Bearer …`.
        """
        try:
            refresh_token = bearer_token(req)
        except Unauthorized:
            refresh_token = ""
        return self.sessions.login(body, refresh_token=refresh_token)


@dataclass
class Refresh:
    """POST /auth/refresh."""

    sessions: Sessions

    @Operation(
        Permission.ANYONE,
        "Tokens refreshed.",
        name="refresh",
        allowed_in_maintenance=True,
        errors=(Unauthorized, TokenReused),
    )
    def on_post(self, _req: Request, body: schemas.TokenRefresh) -> schemas.AuthResult:
        """Exchange a refresh token for new tokens.

        A refresh token lives 7 days and is spent by its use. Within 10 seconds of its first use it returns
        the same new refresh token again, so several tabs may refresh at once; later a reuse ends the session.
        """
        return self.sessions.refresh(body.refresh_token)


@dataclass
class Logout:
    """POST /auth/logout."""

    sessions: Sessions

    @Operation(Permission.SIGNED_IN, "Signed out.", name="logout", allowed_in_maintenance=True)
    def on_post(self, req: Request, body: schemas.SignOut) -> None:
        """Sign out.

        Ends this session, or with `everywhere` all of the caller's. Their tokens stop working at once.
        """
        self.sessions.logout(caller_of(req), everywhere=body.everywhere, refresh_token=body.refresh_token)


class Me:
    """GET /auth/me."""

    @Operation(Permission.SIGNED_IN, "Signed-in user.", name="getMe", etag=True)
    def on_get(self, req: Request) -> snapshots.User:
        """Get the signed-in user."""
        user = users.get(caller_of(req).user_id)
        if user is None:
            raise NotFound(thing="account")
        return snapshots.User.model_validate(user)


@dataclass
class MySessions:
    """GET /auth/sessions."""

    sessions: Sessions

    @Operation(Permission.SIGNED_IN, "Sessions.", name="listSessions")
    def on_get(self, req: Request, query: PageQuery) -> user_sessions.SessionPage:
        """List the signed-in user's sessions.

        Only live sessions, newest first.
        """
        caller = caller_of(req)
        return user_sessions.page(self.sessions.tokens, caller.user_id, query, current=caller.session_id)


@dataclass
class OneSession:
    """DELETE /auth/sessions/:id."""

    sessions: Sessions

    @Operation(Permission.SIGNED_IN, "Session ended.", name="endSession")
    def on_delete(self, req: Request, session_id: UUID) -> None:
        """End one of the signed-in user's sessions."""
        self.sessions.end(caller_of(req), session_id)


@dataclass
class Password:
    """PUT /auth/password."""

    credentials: Credentials

    @Operation(
        Permission.SIGNED_IN,
        "Password changed.",
        name="changePassword",
        # Not the demo users' password: pasting the example must not change it.
        examples={
            "passwords": {"currentPassword": "the password so far", "newPassword": "four boats on a lake"}
        },
        errors=(InvalidCredentials, TooManyFailures),
    )
    def on_put(self, req: Request, body: schemas.PasswordChange) -> None:
        """Change the password.

        This session goes on; every other session of the account ends.
        """
        self.credentials.change_password(caller_of(req), current=body.current_password, new=body.new_password)


@dataclass
class ForgotPassword:
    """POST /auth/forgot-password."""

    credentials: Credentials

    @Operation(
        Permission.ANYONE,
        "If an account has this address, a mail with a link has been sent to it.",
        name="forgotPassword",
    )
    def on_post(self, _req: Request, body: schemas.PasswordResetRequest) -> None:
        """Request a password reset.

        Mails a one-time link that works for 30 minutes. The response is the same whether or not an account
        has the address.
        """
        self.credentials.request_reset(body.email)


@dataclass
class ResetPassword:
    """POST /auth/reset-password."""

    credentials: Credentials

    @Operation(Permission.ANYONE, "Password changed.", name="resetPassword")
    def on_post(self, _req: Request, body: schemas.PasswordReset) -> None:
        """Reset the password.

        Takes the token of the mailed link, which works once. Every session of the account ends.
        """
        self.credentials.reset(token=body.token, new=body.new_password)


@dataclass
class VerifyEmail:
    """GET, POST /auth/verify-email."""

    credentials: Credentials

    @Operation(Permission.ANYONE, "E-mail address verified.", name="verifyEmail")
    def on_get(self, req: Request, query: schemas.VerificationQuery) -> schemas.EmailVerification:
        """Verify an e-mail address by a link.

        Takes the token of the mailed link. The same token succeeds again as long as the address is the
        account's verified one. A HEAD request changes nothing.
        """
        if req.method == "HEAD":
            self.credentials.check_verification_token(query.token)
        else:
            # The maintenance middleware lets every GET pass; this is the only one that changes data.
            maintenance.refuse_if_read_only()
            self.credentials.verify_email(query.token)
        return schemas.EmailVerification(email_verified=True)

    @Operation(Permission.ANYONE, "E-mail address verified.", name="verifyEmailByPost")
    def on_post(self, _req: Request, body: schemas.VerificationToken) -> schemas.EmailVerification:
        """Verify an e-mail address.

        Takes the token of the mailed link. The same token succeeds again as long as the address is the
        account's verified one. Mails link to a page whose button sends this request, so that a mail scanner
        which opens links verifies nothing.
        """
        self.credentials.verify_email(body.token)
        return schemas.EmailVerification(email_verified=True)


@dataclass
class ResendVerification:
    """POST /auth/verify-email/resend."""

    credentials: Credentials

    @Operation(
        Permission.SIGNED_IN,
        "Unless the address is verified, a mail with a link has been sent to it.",
        name="resendVerification",
    )
    def on_post(self, req: Request) -> None:
        """Send the verification mail again."""
        self.credentials.resend_verification(caller_of(req).user_id)
