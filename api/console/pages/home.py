"""The first page after the sign-in, and the event stream of all live pages."""

from typing import Any

from falcon import HTTPSeeOther, Request, Response

from api.console.visits import Console, Visit, page
from api.http.operation import RawOperation


class Root:
    """GET /."""

    @RawOperation(media="text/html")
    def on_get(self, _req: Request, _resp: Response) -> None:
        """Leads to the console."""
        raise HTTPSeeOther("/console")


class Home:
    """GET /console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @page()
    def on_get(self, visit: Visit) -> None:
        payments = visit.api.get("/payments", {"limit": 10})
        visit.show("home.html", payments=payments)


class Events:
    """GET /console/events: the API's event stream for a page, whose script cannot read the access token."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @page()
    def on_get(self, visit: Visit) -> None:
        last: Any = visit.req.get_header("Last-Event-ID")
        visit.pass_on("/events/stream", **({"Last_Event_ID": last} if last else {}))
