"""The routes under /api/auth."""

from dataclasses import dataclass
from uuid import UUID

from falcon import Request

from actors import audit, mail, snapshots
from actors.audit import AuditAction
from actors.jobs import enqueue, transaction
from api import accounts
from api.accounts import EmailTaken
from api.auth import credentials, schemas
from api.auth.sign_in import InvalidCredentials, Sessions, TokenReused
from api.auth.throttle import TooManyFailures
from api.http.operation import Operation
from api.http.responses import PageQuery
from api.middleware.authentication import bearer_token, caller_of, refuse_if_read_only, session_of
from api.security.permissions import Caller, Permission
from api.security.tokens import Unauthorized
from db import sessions, users
from db.core.errors import NotFound
from db.one_time_tokens import fingerprint


@dataclass(frozen=True)
class Auth:
    """The routes under /api/auth."""

    sessions: Sessions

    @Operation(
        Permission.ANYONE,
        "Account created.",
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
                "password": "two chairs by a window",
                "name": "Kim Roe",
                "role": "VENDOR",
            },
        },
        status=201,
    )
    def register(self, _req: Request, body: schemas.Registration) -> schemas.AuthResult:
        """Register an account.

        Creates the account, signs it in and mails a link that verifies the address.
        """
        return self.sessions.register(body)

    @Operation(
        Permission.ANYONE,
        "Signed in.",
        allowed_in_maintenance=True,
        errors=(InvalidCredentials, TooManyFailures),
    )
    def login(self, req: Request, body: schemas.SignIn) -> schemas.AuthResult:
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

    @Operation(
        Permission.ANYONE,
        "Tokens refreshed.",
        allowed_in_maintenance=True,
        errors=(Unauthorized, TokenReused),
    )
    def refresh(self, _req: Request, body: schemas.TokenRefresh) -> schemas.AuthResult:
        """Exchange a refresh token for new tokens.

        A refresh token lives 7 days and is spent by its use. Within 10 seconds of its first use it returns
        the same new refresh token again, so several tabs may refresh at once; later a reuse ends the session.
        """
        return self.sessions.refresh(body.refresh_token)

    @Operation(Permission.SIGNED_IN, "Signed out.", allowed_in_maintenance=True)
    def logout(self, req: Request, body: schemas.SignOut) -> None:
        """Sign out.

        Ends this session, or with `everywhere` all of the caller's. Their tokens stop working at once.
        """
        caller = caller_of(req)
        ended = {caller.session_id}
        if body.refresh_token and (
            other := sessions.session_of(fingerprint(body.refresh_token), caller.user_id)
        ):
            ended.add(other)
        with transaction():
            sessions.end(caller.user_id, only=None if body.everywhere else ended)
            _record_sign_out(caller, ("user", caller.user_id), everywhere=body.everywhere)

    @Operation(Permission.SIGNED_IN, "Signed-in user.", etag=True, reads_user=True)
    def get_me(self, req: Request) -> snapshots.User:
        """Get the signed-in user."""
        return snapshots.User.model_validate(session_of(req))

    @Operation(Permission.SIGNED_IN, "Sessions.")
    def list_sessions(self, req: Request, query: PageQuery) -> accounts.SessionPage:
        """List the signed-in user's sessions.

        Only live sessions, newest first.
        """
        caller = caller_of(req)
        return accounts.page(self.sessions.tokens, caller.user_id, query, current=caller.session_id)

    @Operation(Permission.SIGNED_IN, "Session ended.")
    def end_session(self, req: Request, session_id: UUID) -> None:
        """End one of the signed-in user's sessions."""
        caller = caller_of(req)
        with transaction():
            if not sessions.end(caller.user_id, only=[session_id]):
                raise NotFound(thing="session")
            _record_sign_out(caller, ("session", session_id), everywhere=False)

    @Operation(
        Permission.SIGNED_IN,
        "Password changed.",
        # Not the demo users' password: pasting the example must not change it.
        examples={
            "passwords": {"currentPassword": "the password so far", "newPassword": "four boats on a lake"}
        },
        errors=(InvalidCredentials, TooManyFailures),
    )
    def change_password(self, req: Request, body: schemas.PasswordChange) -> None:
        """Change the password.

        This session goes on; every other session of the account ends.
        """
        credentials.change_password(self.sessions.passwords, caller_of(req), body)

    @Operation(
        Permission.ANYONE,
        "If an account has this address, a mail with a link has been sent to it.",
    )
    def forgot_password(self, _req: Request, body: schemas.PasswordResetRequest) -> None:
        """Request a password reset.

        Mails a one-time link that works for 30 minutes. The response is the same whether or not an account
        has the address.
        """
        with transaction():
            # The same statements for every address, so that the response time says nothing.
            user = users.by_email(body.email)
            account = str(user.id) if user else self.sessions.passwords.pseudonym(body.email)
            audit.record_sampled(AuditAction.PASSWORD_RESET_REQUESTED, account)
            enqueue(mail.request_password_reset.job(body.email))

    @Operation(Permission.ANYONE, "Password changed.")
    def reset_password(self, _req: Request, body: schemas.PasswordReset) -> None:
        """Reset the password.

        Takes the token of the mailed link, which works once. Every session of the account ends.
        """
        credentials.reset_password(self.sessions.passwords, body)

    @Operation(Permission.ANYONE, "E-mail address verified.")
    def verify_email(self, req: Request, query: schemas.VerificationQuery) -> schemas.EmailVerification:
        """Verify an e-mail address by a link.

        Takes the token of the mailed link. The same token succeeds again as long as the address is the
        account's verified one. A HEAD request changes nothing.
        """
        if req.method == "HEAD":
            credentials.check_verification_token(query.token)
        else:
            # The middleware lets every GET pass in maintenance; this is the only one that changes data.
            refuse_if_read_only()
            credentials.verify_email(query.token)
        return schemas.EmailVerification(email_verified=True)

    @Operation(Permission.ANYONE, "E-mail address verified.")
    def verify_email_by_post(
        self, _req: Request, body: schemas.VerificationToken
    ) -> schemas.EmailVerification:
        """Verify an e-mail address.

        Takes the token of the mailed link. The same token succeeds again as long as the address is the
        account's verified one. Mails link to a page whose button sends this request, so that a mail scanner
        which opens links verifies nothing.
        """
        credentials.verify_email(body.token)
        return schemas.EmailVerification(email_verified=True)

    @Operation(
        Permission.SIGNED_IN,
        "Unless the address is verified, a mail with a link has been sent to it.",
    )
    def resend_verification(self, req: Request) -> None:
        """Send the verification mail again."""
        user_id = caller_of(req).user_id
        with transaction():
            audit.record_sampled(AuditAction.VERIFICATION_REQUESTED, str(user_id))
            enqueue(mail.request_verification.job(user_id))


def _record_sign_out(caller: Caller, resource: tuple[str, UUID], *, everywhere: bool) -> None:
    audit.record(AuditAction.USER_SIGNED_OUT, resource=resource, details={"everywhere": everywhere})
    accounts.emit_session_end(caller.user_id, everywhere=everywhere)
