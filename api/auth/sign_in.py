"""Accounts and sessions: the verbs that must answer now."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from actors import audit, events, mail, snapshots
from actors.jobs import enqueue, transaction
from api.accounts import open_account
from api.auth import sign_in_failures
from api.security.passwords import Passwords
from api.security.permissions import Caller
from api.security.tokens import (
    ACCESS_LIFETIME,
    REFRESH_LIFETIME,
    Tokens,
    Unauthorized,
    UnauthorizedReason,
    fingerprint,
)
from api.user_sessions import announce_end
from db import sessions, users
from db.core import request_context, times
from db.core.errors import DomainError, ErrorCode, NotFound
from db.sign_in_failures import PasswordUse
from db.users import Role, User

# A refresh token used again this soon is a second tab or a lost answer; later it is a stolen one.
GRACE = timedelta(seconds=10)
# How many sessions an account has at most: another sign-in ends the oldest.
MOST_SESSIONS = 50


class InvalidCredentials(DomainError):
    """The e-mail address or the password is wrong."""

    code = ErrorCode.INVALID_CREDENTIALS


class TokenReused(DomainError):
    """This refresh token was used before; the session has been ended for safety."""

    code = ErrorCode.TOKEN_REUSED


@dataclass(frozen=True)
class Sessions:
    """Opens accounts, opens and renews and ends sessions."""

    passwords: Passwords
    tokens: Tokens

    def register(self, *, email: str, password: str, name: str, role: Role) -> dict[str, Any]:
        """A new account, signed in. Raises EmailTaken."""
        hashed = self.passwords.hash(password)
        with transaction():
            user = open_account(email=email, password_hash=hashed, name=name, role=role)
            enqueue(mail.request_verification.job(user.id))
            return self._begin(user)

    def login(self, *, email: str, password: str, refresh_token: str = "") -> dict[str, Any]:
        """A new session. Raises InvalidCredentials, in the same words and time whatever was wrong; or
        TooManyFailures."""
        user = users.by_email(email)
        # By the user's id and not by the address: the database knows more spellings of one than we do.
        account = str(user.id) if user is not None else self.passwords.pseudonym(email)
        client = sign_in_failures.client_of(user, refresh_token)
        try:
            slot = sign_in_failures.reserve(PasswordUse.SIGN_IN, account, client)
        except sign_in_failures.TooManyFailures:
            with transaction():
                audit.record_sampled(
                    audit.AuditAction.SIGN_IN_REFUSED, account=account, user_id=user.id if user else None
                )
            raise
        hashed = user.password_hash if user is not None and user.active else None
        # No transaction is open while bcrypt works.
        if not self.passwords.match(password, hashed) or user is None:
            with transaction():
                audit.record(
                    audit.AuditAction.SIGN_IN_FAILED,
                    user_id=user.id if user else None,
                    details={} if user else {"addressDigest": account},
                )
            raise InvalidCredentials
        renewed = self.passwords.hash(password) if self.passwords.stale(user.password_hash) else None
        with transaction():
            now = users.locked(user.id)
            # Changed, or closed, while bcrypt worked: that has ended all sessions, and this is none of them.
            if now is None or not now.active or now.password_hash != user.password_hash:
                raise InvalidCredentials
            if renewed:
                users.set_password(user.id, renewed)
            slot.succeeded()
            audit.record(audit.AuditAction.USER_SIGNED_IN, resource=("user", user.id), user_id=user.id)
            events.emit(events.EventType.USER_LOGGED_IN, snapshots.user(now))
            return self._begin(now)

    def refresh(self, token: str) -> dict[str, Any]:
        """The next pair of tokens. Raises Unauthorized, or TokenReused having ended the session.

        Within GRACE of its first use a token gives the same successor again, to every tab that asks.
        """
        now = times.now()
        with transaction():
            spent = sessions.locked_refresh_token(fingerprint(token))
            if spent is None:
                raise Unauthorized(UnauthorizedReason.INVALID, token="refresh")
            reused = spent.spent_at is not None and now - spent.spent_at > GRACE
            live = sessions.find_live(spent.session_id)
            if not reused and live is None:
                raise Unauthorized(UnauthorizedReason.REVOKED, token="refresh")
            ends_at = self.tokens.ends_at(live["created_at"]) if live else now
            if spent.expires_at <= now or (live and ends_at <= now):
                raise Unauthorized(UnauthorizedReason.EXPIRED, token="refresh")
            successor = self.tokens.successor(token)
            if reused and sessions.end(spent.session_id):
                audit.record(
                    audit.AuditAction.TOKEN_REUSED,
                    resource=("session", spent.session_id),
                    user_id=spent.user_id,
                )
            elif spent.spent_at is None:
                sessions.mark_used(spent, now)
                expires_at = min(ends_at, now + REFRESH_LIFETIME)
                sessions.add_refresh_token(spent, token=fingerprint(successor), expires_at=expires_at)
            user = users.get(spent.user_id)
        # The end of the session is committed before it is told.
        if reused or user is None:
            raise TokenReused
        return self._result(user, spent.session_id, successor)

    def logout(self, caller: Caller, *, everywhere: bool = False, refresh_token: str | None = None) -> None:
        """Ends this session, or all of this person's; its access tokens are dead with it. A refresh token
        of another session of theirs ends that one too."""
        with transaction():
            if everywhere:
                sessions.end_all(caller.user_id)
            else:
                other = sessions.session_of(fingerprint(refresh_token)) if refresh_token else None
                sessions.end_all(caller.user_id, only={caller.session_id, *([other] if other else [])})
            _tell_signed_out(caller.user_id, everywhere=everywhere)

    def end(self, caller: Caller, session_id: UUID) -> None:
        """Ends one of the caller's sessions. Raises NotFound."""
        with transaction():
            if not sessions.end(session_id, user_id=caller.user_id):
                raise NotFound(thing="session")
            _tell_signed_out(caller.user_id, session_id=session_id)

    def _begin(self, user: User) -> dict[str, Any]:
        where = request_context.current()
        session = sessions.start(user.id, ip_address=where.ip_address, user_agent=where.user_agent)
        sessions.end_oldest(user.id, keep=MOST_SESSIONS)
        sign_in_failures.know(user.id)
        token = self.tokens.refresh()
        expires_at = times.now() + min(REFRESH_LIFETIME, self.tokens.session_max_age)
        sessions.add_refresh_token(session, token=fingerprint(token), expires_at=expires_at)
        return self._result(user, session.id, token)

    def _result(self, user: User, session_id: UUID, refresh_token: str) -> dict[str, Any]:
        return {
            "user": snapshots.user(user),
            "accessToken": self.tokens.access(user, session_id, times.now()),
            "refreshToken": refresh_token,
            "tokenType": "Bearer",
            "expiresIn": int(ACCESS_LIFETIME.total_seconds()),
        }


def _tell_signed_out(user_id: UUID, *, everywhere: bool = False, session_id: UUID | None = None) -> None:
    resource = ("session", session_id) if session_id else ("user", user_id)
    audit.record(audit.AuditAction.USER_SIGNED_OUT, resource=resource, details={"everywhere": everywhere})
    announce_end(user_id, everywhere=everywhere)
