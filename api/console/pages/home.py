"""The first page after the sign-in: what each role wants to see first; and the event stream of live pages."""

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
        role = visit.user["role"] if visit.user else ""
        more: dict[str, Any] = {}
        if role == "CUSTOMER":
            query = {"type": "initiate", "status": "initiated", "limit": 5}
            more["asked"] = visit.api.get("/payments", query)
        elif role == "VENDOR":
            more["report"] = visit.api.get("/payments/reports")
        payments = visit.api.get("/payments", {"limit": 10})
        visit.show(f"home-{role.lower()}.html", payments=payments, **more)


class Events:
    """GET /console/events: the API's event stream for a page, whose script cannot read the access token."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @page()
    def on_get(self, visit: Visit) -> None:
        last: Any = visit.req.get_header("Last-Event-ID")
        visit.pass_on("/events/stream", **({"Last_Event_ID": last} if last else {}))
