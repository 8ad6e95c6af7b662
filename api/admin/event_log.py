"""GET /admin/events."""

from falcon import Request

from actors.events import Event
from api.admin import schemas
from api.http.operation import Operation
from api.security.permissions import Permission
from db import event_log


class EventLog:
    """GET /admin/events."""

    @Operation(Permission.OPERATE, "Events.", name="listEvents")
    def on_get(self, _req: Request, query: schemas.EventsQuery) -> schemas.EventPage:
        """List events.

        Returns the events after the one whose `seq` is `after`, oldest first, also those that are not
        published yet because Redis is down. The `seq` of the last item is the next `after`.
        """
        log = event_log.after(query.after, query.limit)
        return schemas.EventPage(items=[Event.model_validate(event) for event in log])
