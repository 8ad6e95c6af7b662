"""GET /admin/events: the event log, for subscribers that were away."""

from typing import Any

from falcon import Request

from actors import events
from api.admin import answers, shapes
from api.gateway.operation import operation
from api.policies import Permission
from db import admin


class EventLog:
    """GET /admin/events"""

    @operation(
        Permission.OPERATE, "Events.", name="listEvents", asks=shapes.EventsQuery, gives=answers.EventLog
    )
    def on_get(self, _req: Request, wish: shapes.EventsQuery) -> dict[str, Any]:
        """The messages of the channel `events` behind the one whose `seq` is `after`, oldest first.

        Those that wait to be published, while Redis is away, are among them. The `seq` of the last one is the
        next `after`.
        """
        return {"items": [events.message(event) for event in admin.events(wish.after, wish.limit)]}
