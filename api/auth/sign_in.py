"""Registers accounts; starts, refreshes and ends sessions."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from falcon import Request
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from actors import audit, events, mail, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import enqueue, transaction
from api import accounts
from api.accounts import EmailTaken, NewAccount
from api.auth import throttle
from api.auth.throttle import InvalidCredentials, Reservation, TooManyFailures
from api.http.fields import RequestBody, normalize_email
from api.http.operation import Operation
from api.http.pages import PageQuery
from api.middleware.authentication import bearer_token, caller_of, session_of
from api.security.passwords import Passwords
from api.security.permissions import Caller, Permission
from api.security.tokens import ACCESS_LIFETIME, REFRESH_LIFETIME, Tokens, Unauthorized, UnauthorizedReason
from api.shown_sessions import SessionPage, emit_session_end, session_page
from db import live_sessions, sessions, users
from db.core import request_context, times
from db.core.errors import DomainError, ErrorCode, NotFound
from db.core.json_model import JsonModel
from db.one_time_tokens import fingerprint
from db.sign_in_failures import PasswordUse
from db.users import Role, User

# A refresh token reused within this time is a second tab or a lost response; later, a stolen token.
REUSE_GRACE = timedelta(seconds=10)
MAX_SESSIONS_PER_ACCOUNT = 50

RefreshToken = Annotated[
    str, Field(min_length=1, max_length=512, examples=["k5Yz0hQm9vTnqk3cG4b1xq8yLw2mJt7sRd6fUe0aPZg"])
]
# Any text may be tried: a refusal by format would say which passwords cannot exist.
PasswordAttempt = Annotated[str, Field(max_length=1024, examples=["Paywright-demo-1"])]


def _normalized_if_valid(value: str) -> str:
    try:
        return normalize_email(value)
    except PydanticCustomError:
        return value


class Registration(NewAccount):
    """The new account."""

    role: Literal["CUSTOMER", "VENDOR"] = Role.CUSTOMER.value


class SignIn(RequestBody):
    """The account's e-mail address and password."""

    # Text that is no address is looked up as it is, and answered as an unknown address.
    email: Annotated[
        str, Field(max_length=1024, examples=["customer@example.com"]), AfterValidator(_normalized_if_valid)
    ]
    password: PasswordAttempt


class TokenRefresh(RequestBody):
    """The refresh token to spend."""

    refresh_token: RefreshToken


class SignOut(RequestBody):
    """Ends the caller's session, and that of `refreshToken` if given; with `everywhere`, all of them."""

    refresh_token: RefreshToken | None = None
    everywhere: bool = False


class AuthResult(JsonModel):
    """The signed-in user and the tokens of the session. `expiresIn` is the access token's life in seconds."""

    user: snapshots.User
    access_token: Annotated[
        str, Field(examples=["eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiIwMTliIn0.c2lnbmF0dXJl"])
    ]
    refresh_token: Annotated[str, Field(examples=["k5Yz0hQm9vTnqk3cG4b1xq8yLw2mJt7sRd6fUe0aPZg"])]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(examples=[900])]


class TokenReused(DomainError, code=ErrorCode.TOKEN_REUSED):
    """This refresh token was used before. The session has been ended for safety; sign in again."""


@dataclass(frozen=True)
class Sessions:
    """The routes of registration and sessions."""

    passwords: Passwords
    tokens: Tokens

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
    def register(self, _req: Request, body: Registration) -> AuthResult:
        """Register an account.

        Creates the account, signs it in and mails a link that verifies the address.
        """
        password_hash = self.passwords.hash(body.password)
        with transaction():
            user = accounts.register(body, Role(body.role), password_hash)
            enqueue(mail.request_verification.job(user.id))
            return self._start(user)

    @Operation(
        Permission.ANYONE,
        "Signed in.",
        allowed_in_maintenance=True,
        errors=(InvalidCredentials, TooManyFailures),
    )
    def login(self, req: Request, body: SignIn) -> AuthResult:
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
        user = users.by_email(body.email)
        user_id = user.id if user else None
        # Counted by user id, not by address: PostgreSQL's lower() makes more spellings equal than Python's.
        account = str(user_id or self.passwords.pseudonym(body.email))
        client = throttle.client_of(user_id, refresh_token)
        with throttle.password_check(PasswordUse.SIGN_IN, account, client) as reservation:
            return self._sign_in(user, body.password, account, reservation)

    @Operation(
        Permission.ANYONE,
        "Tokens refreshed.",
        allowed_in_maintenance=True,
        errors=(Unauthorized, TokenReused),
    )
    def refresh(self, _req: Request, body: TokenRefresh) -> AuthResult:
        """Exchange a refresh token for new tokens.

        A refresh token lives 7 days and is spent by its use. Within 10 seconds of its first use it returns
        the same new refresh token again, so several tabs may refresh at once; later a reuse ends the session.
        """
        now = times.now()
        with transaction():
            token = sessions.locked_refresh_token(fingerprint(body.refresh_token))
            if token is None:
                raise Unauthorized(UnauthorizedReason.INVALID, token="refresh")
            reused = token.spent_at is not None and now - token.spent_at > REUSE_GRACE
            live = live_sessions.read(token.session_id)
            if not reused and live is None:
                raise Unauthorized(UnauthorizedReason.REVOKED, token="refresh")
            ends_at = self.tokens.session_end(live.began_at) if live else now
            if token.expires_at <= now or (live and ends_at <= now):
                raise Unauthorized(UnauthorizedReason.EXPIRED, token="refresh")
            successor = self.tokens.successor(body.refresh_token)
            if reused and sessions.end(token.user_id, only=[token.session_id]):
                resource = ("session", token.session_id)
                audit.record(AuditAction.TOKEN_REUSED, resource=resource, user_id=token.user_id)
            elif token.spent_at is None:
                sessions.mark_used(token, now)
                expires_at = min(ends_at, now + REFRESH_LIFETIME)
                sessions.add_refresh_token(token, token_hash=fingerprint(successor), expires_at=expires_at)
            user = users.get(token.user_id)
        # Raised after the commit: an exception inside the transaction would undo the session's end.
        if reused or user is None:
            raise TokenReused
        return self._result(user, token.session_id, successor)

    @Operation(Permission.SIGNED_IN, "Signed out.", allowed_in_maintenance=True)
    def logout(self, req: Request, body: SignOut) -> None:
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
    def list_sessions(self, req: Request, query: PageQuery) -> SessionPage:
        """List the signed-in user's sessions.

        Only live sessions, newest first.
        """
        caller = caller_of(req)
        return session_page(self.tokens, caller.user_id, query, current=caller.session_id)

    @Operation(Permission.SIGNED_IN, "Session ended.")
    def end_session(self, req: Request, session_id: UUID) -> None:
        """End one of the signed-in user's sessions."""
        caller = caller_of(req)
        with transaction():
            if not sessions.end(caller.user_id, only=[session_id]):
                raise NotFound(thing="session")
            _record_sign_out(caller, ("session", session_id), everywhere=False)

    def _sign_in(
        self, user: User | None, password: str, account: str, reservation: Reservation
    ) -> AuthResult:
        password_hash = user.password_hash if user and user.active else None
        # An unknown address, a wrong password and a closed account get one error, after the same time. bcrypt
        # works outside the transaction, which would hold locks meanwhile.
        if not self.passwords.matches(password, password_hash) or user is None:
            details = {} if user else {"addressDigest": account}
            with transaction():
                audit.record(AuditAction.SIGN_IN_FAILED, user_id=user.id if user else None, details=details)
            raise InvalidCredentials
        outdated = self.passwords.needs_rehash(user.password_hash)
        renewed_hash = self.passwords.hash(password) if outdated else None
        with transaction():
            locked = users.locked(user.id)
            if locked and locked.active and locked.password_hash == user.password_hash:
                if renewed_hash:
                    users.change(user.id, password_hash=renewed_hash)
                reservation.succeeded()
                audit.record(AuditAction.USER_SIGNED_IN, resource=("user", user.id), user_id=user.id)
                events.emit(EventType.USER_LOGGED_IN, snapshots.user(locked))
                return self._start(locked)
        # While bcrypt worked, the account was closed, its password was changed, or another sign-in has
        # renewed the hash of the same password: check it anew.
        return self._sign_in(locked, password, account, reservation)

    def _start(self, user: User) -> AuthResult:
        context = request_context.current()
        token = self.tokens.new_refresh_token()
        session_id = sessions.start(
            user.id,
            ip_address=context.ip_address,
            user_agent=context.user_agent,
            token_hash=fingerprint(token),
            expires_at=times.now() + min(REFRESH_LIFETIME, self.tokens.session_max_age),
            keep=MAX_SESSIONS_PER_ACCOUNT,
        )
        throttle.remember_client(user.id)
        return self._result(user, session_id, token)

    def _result(self, user: User, session_id: UUID, refresh_token: str) -> AuthResult:
        return AuthResult(
            user=snapshots.User.model_validate(user),
            access_token=self.tokens.access_token(user, session_id, times.now()),
            refresh_token=refresh_token,
            token_type="Bearer",
            expires_in=int(ACCESS_LIFETIME.total_seconds()),
        )


def _record_sign_out(caller: Caller, resource: tuple[str, UUID], *, everywhere: bool) -> None:
    audit.record(AuditAction.USER_SIGNED_OUT, resource=resource, details={"everywhere": everywhere})
    emit_session_end(caller.user_id, everywhere=everywhere)
