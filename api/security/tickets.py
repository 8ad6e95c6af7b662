"""Tickets: what opens one event stream in a browser, whose EventSource can send no access token."""

import base64
import re
import secrets
from datetime import timedelta
from uuid import UUID

from api.security.tokens import Unauthorized, UnauthorizedReason
from db import one_time_tokens
from db.core import times

LIFETIME = timedelta(seconds=60)
# In base64: the session (16 bytes) and 256 random bits.
PATTERN = "^[A-Za-z0-9_-]{64}$"
_RANDOM_BYTES = 32


def issue(user_id: UUID, session_id: UUID) -> str:
    """Returns a new ticket for a session. The database has its SHA-256 only."""
    ticket = base64.urlsafe_b64encode(session_id.bytes + secrets.token_bytes(_RANDOM_BYTES)).decode()
    one_time_tokens.add_ticket(user_id, ticket, times.now() + LIFETIME)
    return ticket


def redeem(ticket: str) -> tuple[UUID, UUID]:
    """Uses a ticket up, and returns its user and its session, which may have ended. Raises Unauthorized.

    One statement deletes the row, so that a ticket works once, whichever processes get it.
    """
    if not re.fullmatch(PATTERN, ticket):
        raise Unauthorized(UnauthorizedReason.INVALID)
    user_id = one_time_tokens.redeem_ticket(ticket, times.now())
    if user_id is None:
        raise Unauthorized(UnauthorizedReason.INVALID)
    # Its owner cannot have changed the session in it: the hash is that of the whole ticket.
    return user_id, UUID(bytes=base64.urlsafe_b64decode(ticket)[:16])
