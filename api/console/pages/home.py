"""The first page after the sign-in, which differs by role, and the event stream of live pages."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from falcon import HTTPSeeOther, Request, Response

from api.console.visits import Visit
from api.http.operation import RawOperation
from db.users import Role

_TYPE = re.compile(rb"^event: .*\n", re.MULTILINE)


class RedirectToConsole:
    """GET / and GET /console/. Whether there is a session is left to /console."""

    @RawOperation(media="text/html")
    def on_get(self, _req: Request, _resp: Response) -> None:
        """Redirects to the console."""
        raise HTTPSeeOther("/console")


def show(visit: Visit) -> None:
    """GET /console."""
    role = visit.user["role"]
    if role == Role.ADMIN:
        visit.go("/console/board")
        return
    more: dict[str, Any] = {}
    if role == Role.CUSTOMER:
        more["open_requests"] = visit.api.get(
            "/payments", {"type": "initiate", "status": "initiated", "limit": 5}
        )
    else:
        more["report"] = visit.api.get("/payments/reports")
    payments = visit.api.get("/payments", {"limit": 10})
    visit.show(f"home-{role.lower()}.html", payments=payments, **more)


def stream_events(visit: Visit) -> None:
    """GET /console/events: the API's event stream for a page, whose script cannot read the access token."""
    if not visit.user:
        # A redirect to the sign-in page would be an error to the browser, which expects an event stream.
        visit.no_content()
        return
    last = visit.req.get_header("Last-Event-ID")
    visit.pass_on("/events/stream", change=_without_types, headers={"Last-Event-ID": last} if last else {})


def _without_types(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Removes the types: `EventSource` has a handler for events without a type, but none for all types."""
    return (_TYPE.sub(b"", piece) for piece in pieces)
