"""Access tokens (signed, 15 minutes), refresh tokens (opaque, 7 days), and tickets for an event stream."""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import jwt

from api.security.keys import Keys
from db import one_time_tokens, users
from db.core import times
from db.core.errors import DomainError, ErrorCode

ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=7)
TICKET_LIFETIME = timedelta(seconds=60)
# In base64: the session (16 bytes) and 256 random bits.
TICKET_PATTERN = "^[A-Za-z0-9_-]{64}$"

# A verified signature is remembered for this many tokens; a signed-in user has one, and replaces it every
# quarter of an hour.
MAX_REMEMBERED_TOKENS = 4096

# The `typ` header (RFC 9068) keeps any other JWT that these keys sign from being used as an access token.
_TYPE = "at+jwt"


class UnauthorizedReason(StrEnum):
    """Why a token was refused."""

    MISSING = "token_missing"
    INVALID = "token_invalid"
    EXPIRED = "token_expired"
    REVOKED = "token_revoked"


class Unauthorized(DomainError, code=ErrorCode.UNAUTHORIZED):
    """This needs a valid {token} token."""

    def __init__(self, reason: UnauthorizedReason, *, token: str = "access") -> None:
        super().__init__({"reason": reason}, token=token)


@dataclass(frozen=True)
class Claims:
    """The claims of an access token that are used. E-mail and role are read from the database instead.

    `expires_at` is a Unix time.
    """

    user_id: UUID
    session_id: UUID
    expires_at: float


class Tokens:
    """Issues and verifies the tokens of an installation."""

    def __init__(
        self, keys: Keys, *, issuer: str, audience: str, pepper: str, session_max_age: timedelta
    ) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self.session_max_age = session_max_age
        # Derived from the pepper, which is never rotated: during a rotation of JWT_SECRET all processes must
        # agree on the successor of a refresh token.
        self._successor_key = hmac.digest(pepper.encode(), b"refresh-token-succession", hashlib.sha256)
        # A token's signature is checked once, and its expiry at every request. The cache belongs to this
        # instance, whose keys never change: other keys come with another process. It has no refused token.
        self._verified = lru_cache(MAX_REMEMBERED_TOKENS)(self._verify_signature)

    def access_token(self, user: users.User, session_id: UUID, now: datetime) -> str:
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
        return jwt.encode(claims, key.signing_key, key.algorithm, headers={"kid": key.id, "typ": _TYPE})

    def verify(self, token: str) -> Claims:
        """Returns the claims of a valid access token. Raises Unauthorized."""
        claims = self._verified(token)
        if claims.expires_at <= times.now().timestamp():
            raise Unauthorized(UnauthorizedReason.EXPIRED)
        return claims

    def _verify_signature(self, token: str) -> Claims:
        """Returns the claims of a token that is valid now. Raises Unauthorized.

        The token names a key and nothing else: the algorithm comes from the key (RFC 8725, 3.1).
        """
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid"))
            if key is None or header.get("typ") != _TYPE:
                raise Unauthorized(UnauthorizedReason.INVALID)
            claims = jwt.decode(
                token,
                key.verification_key,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                # `iat` is not compared with now: the clock of the machine that signed may be a second ahead.
                options={
                    "require": ["userId", "sid", "jti", "iat", "exp", "iss", "aud"],
                    "verify_iat": False,
                },
            )
            return Claims(UUID(claims["userId"]), UUID(claims["sid"]), float(claims["exp"]))
        except jwt.ExpiredSignatureError:
            raise Unauthorized(UnauthorizedReason.EXPIRED) from None
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise Unauthorized(UnauthorizedReason.INVALID) from None

    def session_end(self, signed_in_at: datetime) -> datetime:
        """Returns when a session ends, however often it is refreshed."""
        return signed_in_at + self.session_max_age

    def new_refresh_token(self) -> str:
        """Returns a new refresh token: 256 random bits."""
        return secrets.token_urlsafe(32)

    def successor(self, refresh_token: str) -> str:
        """Returns the refresh token that replaces this one; nobody can predict it without our key.

        It is always the same, so twenty tabs that refresh at once all get it, and it is not stored in clear.
        """
        digest = hmac.digest(self._successor_key, refresh_token.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def issue_ticket(user_id: UUID, session_id: UUID) -> str:
    """Returns a ticket that opens one event stream in a browser, whose EventSource can send no access token.

    The database stores only the SHA-256 of the ticket.
    """
    ticket = base64.urlsafe_b64encode(session_id.bytes + secrets.token_bytes(32)).decode()
    one_time_tokens.add_ticket(user_id, ticket, times.now() + TICKET_LIFETIME)
    return ticket


def redeem_ticket(ticket: str) -> tuple[UUID, UUID]:
    """Uses a ticket up, and returns its user and its session, which may have ended. Raises Unauthorized.

    One statement deletes the row, so that a ticket works once, whichever processes get it.
    """
    known = re.fullmatch(TICKET_PATTERN, ticket)
    user_id = one_time_tokens.redeem_ticket(ticket, times.now()) if known else None
    if user_id is None:
        raise Unauthorized(UnauthorizedReason.INVALID)
    # The client cannot have changed the session in the ticket: the stored hash is that of the whole ticket.
    return user_id, UUID(bytes=base64.urlsafe_b64decode(ticket)[:16])
