"""The first page after the sign-in: what each role wants to see first; and the event stream of live pages."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from falcon import HTTPSeeOther, Request, Response

from api.console.visits import Visit
from api.http.operation import RawOperation

_TYPE = re.compile(rb"^event: .*\n", re.MULTILINE)


class WayIn:
    """GET / and GET /console/. They read no session, because /console does."""

    @RawOperation(media="text/html")
    def on_get(self, _req: Request, _resp: Response) -> None:
        """Leads to the console."""
        raise HTTPSeeOther("/console")


def show(visit: Visit) -> None:
    """GET /console."""
    role = visit.user["role"]
    if role == "ADMIN":
        visit.go("/console/board")
        return
    more: dict[str, Any] = {}
    if role == "CUSTOMER":
        more["asked"] = visit.api.get("/payments", {"type": "initiate", "status": "initiated", "limit": 5})
    else:
        more["report"] = visit.api.get("/payments/reports")
    payments = visit.api.get("/payments", {"limit": 10})
    visit.show(f"home-{role.lower()}.html", payments=payments, **more)


def stream_events(visit: Visit) -> None:
    """GET /console/events: the API's event stream for a page, whose script cannot read the access token."""
    if not visit.user:
        # The sign-in page would be no event stream: the browser would report that as an error.
        visit.no_content()
        return
    last = visit.req.get_header("Last-Event-ID")
    visit.pass_on("/events/stream", change=_without_types, headers={"Last-Event-ID": last} if last else {})


def _without_types(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Leaves the types out: `EventSource` gives an event of a type only to who names it, a page wants all."""
    return (_TYPE.sub(b"", piece) for piece in pieces)
