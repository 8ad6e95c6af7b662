"""Registers accounts; starts and refreshes sessions."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from actors import audit, events, mail, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import enqueue, transaction
from api import accounts
from api.auth import throttle
from api.auth.schemas import AuthResult, Registration, SignIn
from api.security.passwords import Passwords
from api.security.tokens import ACCESS_LIFETIME, REFRESH_LIFETIME, Tokens, Unauthorized, UnauthorizedReason
from db import live_sessions, sessions, users
from db.core import request_context, times
from db.core.errors import DomainError, ErrorCode
from db.one_time_tokens import fingerprint
from db.sign_in_failures import PasswordUse
from db.users import Role, User

# A refresh token reused within this time is a second tab or a lost response; later, a stolen token.
REUSE_GRACE = timedelta(seconds=10)
MAX_SESSIONS_PER_ACCOUNT = 50


class InvalidCredentials(DomainError, code=ErrorCode.INVALID_CREDENTIALS):
    """The e-mail address or the password is wrong."""


class TokenReused(DomainError, code=ErrorCode.TOKEN_REUSED):
    """This refresh token was used before. The session has been ended for safety; sign in again."""


@dataclass(frozen=True)
class Sessions:
    """Registers accounts; starts and refreshes sessions."""

    passwords: Passwords
    tokens: Tokens

    def register(self, account: Registration) -> AuthResult:
        """Creates an account and its first session. Raises EmailTaken."""
        password_hash = self.passwords.hash(account.password)
        with transaction():
            user = accounts.register(account, Role(account.role), password_hash)
            enqueue(mail.request_verification.job(user.id))
            return self._start(user)

    def login(self, body: SignIn, *, refresh_token: str) -> AuthResult:
        """Starts a session. `refresh_token` is one of an earlier session, by which the client is known.

        Raises TooManyFailures; or InvalidCredentials, with the same text and after the same time for an
        unknown address, a wrong password and a closed account.
        """
        user = users.by_email(body.email)
        user_id = user.id if user else None
        # Counted by user id, not by address: PostgreSQL's lower() folds more spellings of one than Python's.
        account = str(user_id or self.passwords.pseudonym(body.email))
        client = throttle.client_of(user_id, refresh_token)
        reservation = throttle.reserve(PasswordUse.SIGN_IN, account, client)
        password_hash = user.password_hash if user and user.active else None
        # bcrypt works outside the transaction, which would hold locks meanwhile.
        if not self.passwords.matches(body.password, password_hash) or user is None:
            details = {} if user else {"addressDigest": account}
            with transaction():
                audit.record(AuditAction.SIGN_IN_FAILED, user_id=user_id, details=details)
            raise InvalidCredentials
        outdated = self.passwords.needs_rehash(user.password_hash)
        renewed_hash = self.passwords.hash(body.password) if outdated else None
        with transaction():
            locked = users.locked(user.id)
            # While bcrypt worked, a password change or a closing may have ended all sessions.
            if locked is None or not locked.active or locked.password_hash != user.password_hash:
                raise InvalidCredentials
            if renewed_hash:
                users.change(user.id, password_hash=renewed_hash)
            reservation.succeeded()
            audit.record(AuditAction.USER_SIGNED_IN, resource=("user", user.id), user_id=user.id)
            events.emit(EventType.USER_LOGGED_IN, snapshots.user(locked))
            return self._start(locked)

    def refresh(self, token: str) -> AuthResult:
        """Spends a refresh token for a new pair of tokens.

        Within REUSE_GRACE of its first use the same token gets the same successor, for every tab that sends
        it. Raises Unauthorized; or TokenReused, after the session has been ended.
        """
        now = times.now()
        with transaction():
            spent = sessions.locked_refresh_token(fingerprint(token))
            if spent is None:
                raise Unauthorized(UnauthorizedReason.INVALID, token="refresh")
            reused = spent.spent_at is not None and now - spent.spent_at > REUSE_GRACE
            live = live_sessions.read(spent.session_id)
            if not reused and live is None:
                raise Unauthorized(UnauthorizedReason.REVOKED, token="refresh")
            ends_at = self.tokens.session_end(live.began_at) if live else now
            if spent.expires_at <= now or (live and ends_at <= now):
                raise Unauthorized(UnauthorizedReason.EXPIRED, token="refresh")
            successor = self.tokens.successor(token)
            if reused and sessions.end(spent.user_id, only=[spent.session_id]):
                resource = ("session", spent.session_id)
                audit.record(AuditAction.TOKEN_REUSED, resource=resource, user_id=spent.user_id)
            elif spent.spent_at is None:
                sessions.mark_used(spent, now)
                expires_at = min(ends_at, now + REFRESH_LIFETIME)
                sessions.add_refresh_token(spent, token_hash=fingerprint(successor), expires_at=expires_at)
            user = users.get(spent.user_id)
        # Raised after the commit: an exception inside the transaction would undo the session's end.
        if reused or user is None:
            raise TokenReused
        return self._result(user, spent.session_id, successor)

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
