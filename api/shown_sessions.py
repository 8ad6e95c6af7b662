"""Sessions as their user and administrators see them, and the event that says that they have ended."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from actors import events
from actors.events import EventType
from api.http.pages import PageQuery, ResponsePage
from api.security.tokens import REFRESH_LIFETIME, Tokens
from db import sessions
from db.core import times
from db.core.json_model import Id, JsonModel, Timestamp


class Session(JsonModel):
    """A live session. `current` is the session of the access token that was sent."""

    id: Id
    created_at: Timestamp
    last_used_at: Timestamp
    ip_address: Annotated[str | None, Field(examples=["203.0.113.7"])]
    user_agent: Annotated[str | None, Field(examples=["Mozilla/5.0"])]
    current: bool


class SessionPage(ResponsePage[Session]):
    """One page of a user's live sessions, newest first."""


def session_page(tokens: Tokens, user_id: UUID, query: PageQuery, *, current: UUID) -> SessionPage:
    """Returns a page of a user's live sessions; `current` is the session of the caller."""
    now = times.now()
    page = sessions.page(
        user_id,
        used_since=now - REFRESH_LIFETIME,
        begun_since=now - tokens.session_max_age,
        limit=query.limit,
        after=query.after,
    )
    return SessionPage.of(page, lambda row: Session.from_record(row, current=row.id == current))


def emit_session_end(user_id: UUID, *, everywhere: bool) -> None:
    """Emits the event that one session of a user, or `everywhere` all of them, have ended."""
    events.emit(EventType.USER_LOGGED_OUT, {"userId": str(user_id), "everywhere": everywhere})
