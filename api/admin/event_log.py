"""GET /admin/events: the event log, for subscribers that were away."""

from typing import Any

from falcon import Request

from actors import events
from api.admin import answers, schemas
from api.http.operation import operation
from api.security.permissions import Permission
from db import event_log


class EventLog:
    """GET /admin/events"""

    @operation(
        Permission.OPERATE,
        "Events.",
        name="listEvents",
        query=schemas.EventsQuery,
        response=answers.EventPage,
    )
    def on_get(self, _req: Request, query: schemas.EventsQuery) -> dict[str, Any]:
        """The messages of the channel `events` behind the one whose `seq` is `after`, oldest first.

        Those that wait to be published, while Redis is away, are among them. The `seq` of the last one is the
        next `after`.
        """
        return {"items": [events.to_message(event) for event in event_log.after(query.after, query.limit)]}
