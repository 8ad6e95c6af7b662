"""Sessions, as their owner and an administrator see them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from actors import events
from api.http.fields import PageQuery, page_of_items
from api.http.responses import Pagination, ResponseModel
from api.security.tokens import REFRESH_LIFETIME, Tokens
from db import sessions
from db.core import times
from db.core.json_model import Id, Timestamp


class Session(ResponseModel):
    """One sign-in that is still live; `current` is the one that asks."""

    id: Id
    created_at: Timestamp
    last_used_at: Timestamp
    ip_address: Annotated[str | None, Field(examples=["203.0.113.7"])]
    user_agent: Annotated[str | None, Field(examples=["Mozilla/5.0"])]
    current: bool


class Sessions(ResponseModel):
    """One page of a user's sessions that go on, newest first."""

    items: list[Session]
    pagination: Pagination


def page(tokens: Tokens, user_id: UUID, query: PageQuery, *, current: UUID) -> dict[str, Any]:
    """A page of a user's sessions that go on; `current` is the one that asks."""
    now: datetime = times.now()
    found = sessions.page(
        user_id,
        used_since=now - REFRESH_LIFETIME,
        begun_since=now - tokens.session_max_age,
        limit=query.limit,
        after=query.place,
    )
    return page_of_items(found, lambda it: _written(it, current=it.id == current))


def announce_end(user_id: UUID, *, everywhere: bool) -> None:
    """Announces that one session of a user, or all of them, have ended."""
    events.emit(events.EventType.USER_LOGGED_OUT, {"userId": str(user_id), "everywhere": everywhere})


def _written(it: sessions.Session, *, current: bool) -> dict[str, Any]:
    return {
        "id": str(it.id),
        "createdAt": times.iso(it.created_at),
        "lastUsedAt": times.iso(it.last_used_at),
        "ipAddress": it.ip_address,
        "userAgent": it.user_agent,
        "current": current,
    }
