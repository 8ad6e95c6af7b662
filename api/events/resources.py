"""The routes of live events: the stream, and the ticket that opens it in a browser."""

import re
from typing import Annotated

from falcon import Request
from pydantic import Field

from api.events.feed import Feed, Stream, TooManyStreams
from api.http.admission import Busy
from api.http.body import ValidationFailed
from api.http.fields import Digits, Query
from api.http.operation import IS_AWAITED, Operation, Streamed
from api.middleware.authentication import caller_of, session_of
from api.payments import visibility
from api.security.permissions import Permission
from api.security.tokens import TICKET_LIFETIME, TICKET_PATTERN, Tokens, issue_ticket
from db import event_log
from db.core.json_model import JsonModel

_MEDIA = "text/event-stream"
_HEADER = "Last-Event-ID"
_DIGITS = re.compile("[0-9]{1,19}")


class StreamQuery(Query):
    """`lastEventId` is for clients that cannot send the header `Last-Event-ID`, which has precedence."""

    last_event_id: Annotated[int, Field(ge=0, le=event_log.MAX_SEQ), Digits] | None = None
    ticket: Annotated[str, Field(pattern=TICKET_PATTERN)] | None = None


class Ticket(JsonModel):
    """A ticket opens one stream of its session within `expiresIn` seconds."""

    ticket: Annotated[str, Field(pattern=TICKET_PATTERN, examples=["A" * 64])]
    expires_in: Annotated[int, Field(examples=[60])]


class Events:
    """The stream of one process, and its tickets."""

    def __init__(self, feed: Feed, tokens: Tokens) -> None:
        self._feed, self._tokens = feed, tokens

    @Operation(
        Permission.SIGNED_IN,
        "Events.",
        streams=_MEDIA,
        errors=(Busy, TooManyStreams),
    )
    def stream_events(self, req: Request, query: StreamQuery) -> Streamed:
        """Stream events.

        Server-Sent Events, as `EventSource` reads them: `id` is the `seq` of the event, `event` its type and
        `data` the event as JSON. An administrator gets every event, others get those of the payments in their
        lists. With `Last-Event-ID` the stream goes on after that event, without it begins with the next one;
        the response header of the same name says where it begins.

        The stream ends with the session, however old the access token is, when the role changes, or when the
        server stops: connect again with the `id` of the last event. A comment arrives every 15 seconds.
        """
        caller, session = caller_of(req), session_of(req)
        self._feed.check_limits(caller.user_id)
        log_end = event_log.last_seq()
        after = _last_event_id(req)
        if after is None:
            after = query.last_event_id
        # After a restore the log may end before the event that the client had last.
        after = log_end if after is None else min(after, log_end)
        stream = Stream(
            self._feed,
            caller,
            visibility.scope(caller),
            after=after,
            log_end=log_end,
            ends_at=self._tokens.session_end(session.began_at),
            is_awaited=req.env.get(IS_AWAITED, lambda: True),
        )
        # nginx would keep events back until its buffer is full.
        headers = {_HEADER: str(after), "X-Accel-Buffering": "no"}
        return Streamed(iter(stream), _MEDIA, headers)

    @Operation(Permission.SIGNED_IN, "Ticket created.", allowed_in_maintenance=True)
    def create_event_ticket(self, req: Request) -> Ticket:
        """Create a ticket for an event stream.

        For `EventSource`, which cannot send an access token: `/api/events/stream?ticket=…`. A ticket works
        once, within 60 seconds. `EventSource` connects again with the same address when the stream ends:
        close it then, and open another one with a new ticket and `lastEventId`.
        """
        caller = caller_of(req)
        ticket = issue_ticket(caller.user_id, caller.session_id)
        return Ticket(ticket=ticket, expires_in=int(TICKET_LIFETIME.total_seconds()))


def _last_event_id(req: Request) -> int | None:
    value = (req.get_header(_HEADER) or "").strip()
    if not value:
        return None
    if not _DIGITS.fullmatch(value) or int(value) > event_log.MAX_SEQ:
        raise ValidationFailed.of(_HEADER, "must be the id of an event")
    return int(value)
