"""A user's sessions, as listed to the user and to administrators."""

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
    """A live session. `current` is the session of the access token that was sent."""

    id: Id
    created_at: Timestamp
    last_used_at: Timestamp
    ip_address: Annotated[str | None, Field(examples=["203.0.113.7"])]
    user_agent: Annotated[str | None, Field(examples=["Mozilla/5.0"])]
    current: bool


class SessionPage(ResponseModel):
    """One page of a user's live sessions, newest first."""

    items: list[Session]
    pagination: Pagination


def page(tokens: Tokens, user_id: UUID, query: PageQuery, *, current: UUID) -> dict[str, Any]:
    """Returns a page of a user's live sessions; `current` is the session of the caller."""
    now = times.now()
    found = sessions.page(
        user_id,
        used_since=now - REFRESH_LIFETIME,
        begun_since=now - tokens.session_max_age,
        limit=query.limit,
        after=query.place,
    )
    return page_of_items(found, lambda session: _session(session, current=session.id == current))


def emit_session_end(user_id: UUID, *, everywhere: bool) -> None:
    """Emits the event that one session of a user, or `everywhere` all of them, have ended."""
    events.emit(events.EventType.USER_LOGGED_OUT, {"userId": str(user_id), "everywhere": everywhere})


def _session(session: sessions.Session, *, current: bool) -> dict[str, Any]:
    return {
        "id": str(session.id),
        "createdAt": times.iso(session.created_at),
        "lastUsedAt": times.iso(session.last_used_at),
        "ipAddress": session.ip_address,
        "userAgent": session.user_agent,
        "current": current,
    }
