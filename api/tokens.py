"""Tokens: a signed access token for 15 minutes, an opaque refresh token for 7 days."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import jwt

from db import auth
from db.fault import Code, Fault

ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=7)

_ALGORITHM = "HS256"


class Reason(StrEnum):
    """Why a token was not taken."""

    MISSING = "token_missing"
    INVALID = "token_invalid"
    EXPIRED = "token_expired"
    REVOKED = "token_revoked"


class Unauthorized(Fault):
    """This needs a valid access token."""

    code = Code.UNAUTHORIZED

    def __init__(self, reason: Reason) -> None:
        super().__init__({"reason": reason})


@dataclass(frozen=True)
class Claims:
    """What an access token says; the rest is asked from the database."""

    user_id: UUID
    session_id: UUID


class Tokens:
    """Makes and reads the tokens of this installation."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        # Its own key: a refresh token's successor must not be computable from anything that is signed.
        self._succession = hmac.digest(self._secret, b"refresh-token-succession", hashlib.sha256)

    def access(self, user: auth.User, session_id: UUID, now: datetime) -> str:
        """An access token for a session."""
        claims: dict[str, Any] = {
            "userId": str(user.id),
            "email": user.email,
            "role": user.role,
            "sid": str(session_id),
            "jti": str(uuid4()),
            "iat": now,
            "exp": now + ACCESS_LIFETIME,
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def read(self, token: str) -> Claims:
        """What an access token says. Raises Unauthorized. The algorithm is our choice, not the token's."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                options={"require": ["userId", "sid", "iat", "exp"]},
            )
            return Claims(UUID(claims["userId"]), UUID(claims["sid"]))
        except jwt.ExpiredSignatureError:
            raise Unauthorized(Reason.EXPIRED) from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise Unauthorized(Reason.INVALID) from None

    def refresh(self) -> str:
        """A new refresh token: 256 random bits."""
        return secrets.token_urlsafe(32)

    def successor(self, refresh_token: str) -> str:
        """The one that follows a refresh token: always the same one, and nobody else can say which.

        So twenty tabs that refresh at once all get it, and it need not be stored to be told again.
        """
        digest = hmac.digest(self._succession, refresh_token.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def fingerprint(refresh_token: str) -> str:
    """What the database keeps of a refresh token: SHA-256, in hex. It has entropy enough to need no salt."""
    return hashlib.sha256(refresh_token.encode()).hexdigest()
