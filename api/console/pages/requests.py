"""Pages of a vendor: payment requests, and the link of each to send to a customer."""

from typing import Any
from uuid import UUID, uuid4

from api.console.client import ApiError
from api.console.pages.pay import CURRENCIES
from api.console.visits import Resource, Visit, page

_FIELDS = ("amount", "currency", "description", "customerEmail")


class Requests(Resource):
    """GET /console/requests."""

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query("status", "cursor")
        requests = visit.api.get("/payments", {"type": "initiate", **query})
        visit.show("requests.html", requests=requests, query=query)


class NewRequest(Resource):
    """GET, POST /console/requests/new."""

    @page()
    def on_get(self, visit: Visit) -> None:
        _show_form(visit)

    @page()
    def on_post(self, visit: Visit) -> None:
        body = visit.fields(*_FIELDS)
        key = visit.form.get("key") or str(uuid4())
        try:
            made = visit.api.post("/payments", {"type": "initiate", **body}, Idempotency_Key=key)
        except ApiError as error:
            _show_form(visit, error=error)
        else:
            visit.go(f"/console/requests/{made['id']}")


class OneRequest(Resource):
    """GET, POST /console/requests/{request_id}: its link, what became of it, and its changes."""

    @page()
    def on_get(self, visit: Visit, request_id: UUID) -> None:
        _show(visit, request_id)

    @page()
    def on_post(self, visit: Visit, request_id: UUID) -> None:
        try:
            if "cancel" in visit.form:
                visit.api.delete(f"/payments/{request_id}")
                notice = "The request is being cancelled."
            else:
                changes: dict[str, Any] = {name: visit.form.get(name) for name in _FIELDS}
                version = visit.form.get("version", '""')
                visit.api.put(f"/payments/{request_id}", changes, If_Match=version)
                notice = "The request is changed. A customer who has it open has to look again before paying."
        except ApiError as error:
            _show(visit, request_id, error=error)
        else:
            visit.go(f"/console/requests/{request_id}", notice)


def _show_form(visit: Visit, *, error: ApiError | None = None) -> None:
    currencies = [(code, code) for code in CURRENCIES]
    values = visit.form if error else {}
    visit.show("request-new.html", values=values, error=error, currencies=currencies, key=str(uuid4()))


def _show(visit: Visit, id: UUID, *, error: ApiError | None = None) -> None:
    request = visit.api.get(f"/payments/{id}")
    payments = visit.api.get("/payments", {"requestId": str(id)})
    currencies = [(code, code) for code in sorted({*CURRENCIES, request["currency"]})]
    values = visit.form if error else request
    visit.show(
        "request.html",
        request=request,
        payments=payments,
        values=values,
        error=error,
        currencies=currencies,
        link=f"{visit.console.public_url}/console/pay/{id}",
    )
