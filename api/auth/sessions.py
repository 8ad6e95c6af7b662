"""Accounts and sessions: the verbs that must answer now."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from actors import audit, events, origin, snapshots
from actors.verbs import transaction
from api.passwords import Passwords
from api.tokens import ACCESS_LIFETIME, REFRESH_LIFETIME, Reason, Tokens, Unauthorized, fingerprint
from db import auth, times
from db.auth import Role, User
from db.fault import Code, Fault

# A refresh token used again this soon is a second tab or a lost answer; later it is a stolen one.
GRACE = timedelta(seconds=10)


class EmailTaken(Fault):
    """There is an account with this e-mail address already."""

    code = Code.EMAIL_TAKEN


class InvalidCredentials(Fault):
    """The e-mail address or the password is wrong."""

    code = Code.INVALID_CREDENTIALS


class TokenReused(Fault):
    """This refresh token was used before; the session has been ended for safety."""

    code = Code.TOKEN_REUSED


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
            return self._begin(user)

    def login(self, *, email: str, password: str) -> dict[str, Any]:
        """A new session. Raises InvalidCredentials, in the same words and time whatever was wrong."""
        user = auth.by_email(email)
        hashed = user.password_hash if user is not None and user.active else None
        # No transaction is open while bcrypt works.
        if not self.passwords.match(password, hashed) or user is None:
            with transaction():
                audit.note(audit.Action.SIGN_IN_FAILED, user_id=user.id if user else None)
            raise InvalidCredentials
        with transaction():
            audit.note(audit.Action.USER_SIGNED_IN, resource=("user", user.id), user_id=user.id)
            events.announce(events.Type.USER_LOGGED_IN, snapshots.user(user))
            return self._begin(user)

    def refresh(self, token: str) -> dict[str, Any]:
        """The next pair of tokens. Raises Unauthorized, or TokenReused having ended the session.

        Within GRACE of its first use a token gives the same successor again, to every tab that asks.
        """
        now = times.now()
        with transaction():
            spent = auth.locked_refresh_token(fingerprint(token))
            if spent is None:
                raise Unauthorized(Reason.INVALID)
            if auth.live(spent.session_id) is None:
                raise Unauthorized(Reason.REVOKED)
            if spent.expires_at <= now:
                raise Unauthorized(Reason.EXPIRED)
            successor = self.tokens.successor(token)
            reused = spent.spent_at is not None and now - spent.spent_at > GRACE
            if reused:
                auth.end_session(spent.session_id)
                audit.note(
                    audit.Action.TOKEN_REUSED, resource=("session", spent.session_id), user_id=spent.user_id
                )
            elif spent.spent_at is None:
                auth.spend(spent, now)
                auth.add_refresh_token(spent, token=fingerprint(successor), expires_at=now + REFRESH_LIFETIME)
            user = auth.user(spent.user_id)
        # The end of the session is committed before it is told.
        if reused or user is None:
            raise TokenReused
        return self._result(user, spent.session_id, successor)

    def logout(self, user_id: UUID, session_id: UUID, *, everywhere: bool) -> None:
        """Ends this session, or all of this person's; its access tokens are dead with it."""
        with transaction():
            if everywhere:
                auth.end_sessions(user_id)
            else:
                auth.end_session(session_id)
            audit.note(
                audit.Action.USER_SIGNED_OUT, resource=("user", user_id), details={"everywhere": everywhere}
            )
            events.announce(events.Type.USER_LOGGED_OUT, {"userId": str(user_id), "everywhere": everywhere})

    def _begin(self, user: User) -> dict[str, Any]:
        where = origin.current()
        session = auth.start_session(user.id, ip_address=where.ip_address, user_agent=where.user_agent)
        token = self.tokens.refresh()
        auth.add_refresh_token(session, token=fingerprint(token), expires_at=times.now() + REFRESH_LIFETIME)
        return self._result(user, session.id, token)

    def _result(self, user: User, session_id: UUID, refresh_token: str) -> dict[str, Any]:
        return {
            "user": snapshots.user(user),
            "accessToken": self.tokens.access(user, session_id, times.now()),
            "refreshToken": refresh_token,
            "tokenType": "Bearer",
            "expiresIn": int(ACCESS_LIFETIME.total_seconds()),
        }


def open_account(*, email: str, password_hash: str, name: str, role: Role, **more: Any) -> User:
    """A new person, in the open transaction. Raises EmailTaken."""
    user = auth.add_user(email=email, password_hash=password_hash, name=name, role=role, **more)
    if user is None:
        raise EmailTaken
    audit.note(
        audit.Action.USER_REGISTERED, resource=("user", user.id), user_id=user.id, details={"role": role}
    )
    events.announce(events.Type.USER_REGISTERED, snapshots.user(user))
    return user
