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

from api.security.keys import Keys
from db import users
from db.core.errors import DomainError, ErrorCode

ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=7)

# RFC 9068: an access token, so that no other token of ours is ever taken for one.
_TYPE = "at+jwt"


class UnauthorizedReason(StrEnum):
    """Why a token was not taken."""

    MISSING = "token_missing"
    INVALID = "token_invalid"
    EXPIRED = "token_expired"
    REVOKED = "token_revoked"


class Unauthorized(DomainError):
    """This needs a valid {token} token."""

    code = ErrorCode.UNAUTHORIZED

    def __init__(self, reason: UnauthorizedReason, *, token: str = "access") -> None:
        super().__init__({"reason": reason}, token=token)


@dataclass(frozen=True)
class Claims:
    """What an access token says; the rest is asked from the database."""

    user_id: UUID
    session_id: UUID


class Tokens:
    """Makes and reads the tokens of this installation."""

    def __init__(
        self, keys: Keys, *, issuer: str, audience: str, pepper: str, session_max_age: timedelta
    ) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self.session_max_age = session_max_age
        # Its own key, made of the one secret that is never rotated: within REUSE_GRACE of a rotation two processes
        # must still agree on a token's successor.
        self._succession = hmac.digest(pepper.encode(), b"refresh-token-succession", hashlib.sha256)

    def access(self, user: users.User, session_id: UUID, now: datetime) -> str:
        """An access token for a session."""
        claims: dict[str, Any] = {
            "userId": str(user.id),
            "email": user.email,
            "role": user.role,
            "sid": str(session_id),
            "jti": str(uuid4()),
            "iat": now,
            "exp": now + ACCESS_LIFETIME,
            "iss": self._issuer,
            "aud": self._audience,
        }
        key = self._keys.signing
        return jwt.encode(claims, key.signs, key.algorithm, headers={"kid": key.id, "typ": _TYPE})

    def read(self, token: str) -> Claims:
        """What an access token says. Raises Unauthorized.

        The token only names a key; which algorithm goes with it is ours to say (RFC 8725, 3.1).
        """
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid"))
            if key is None or header.get("typ") != _TYPE:
                raise Unauthorized(UnauthorizedReason.INVALID)
            claims = jwt.decode(
                token,
                key.verifies,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                # Not whether it was issued in the past: the clock of another machine may be a second ahead.
                options={
                    "require": ["userId", "sid", "jti", "iat", "exp", "iss", "aud"],
                    "verify_iat": False,
                },
            )
            return Claims(UUID(claims["userId"]), UUID(claims["sid"]))
        except jwt.ExpiredSignatureError:
            raise Unauthorized(UnauthorizedReason.EXPIRED) from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise Unauthorized(UnauthorizedReason.INVALID) from None

    def ends_at(self, signed_in_at: datetime) -> datetime:
        """When a session ends that began then, however often it is refreshed."""
        return signed_in_at + self.session_max_age

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
