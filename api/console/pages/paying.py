"""A customer pays: an amount of their own, or the request of a vendor, who makes it and sends its link."""

from typing import Any
from uuid import UUID, uuid4

from api.console.client import ApiError
from api.console.visits import Visit
from api.security.permissions import Permission

CURRENCIES = ("USD", "EUR", "GBP", "CHF", "JPY", "SEK", "NOK", "DKK", "PLN", "CZK", "AUD", "CAD")
# What the stub of the payment provider does, by `metadata.simulate`.
SCENARIOS = (
    ("", "As configured (psp.approvalRate)"),
    ("approve", "Approve: charged at once"),
    ("decline:insufficient_funds", "Decline: insufficient funds"),
    ("decline:expired_card", "Decline: expired card"),
    ("slow", "Slow: the answer takes 3 s"),
    ("error", "Error: fails twice, then charges"),
    ("timeout", "Timeout: charges, but the answer is lost"),
    ("duplicate", "Duplicate: answers twice"),
    ("late", "Late: answers after it was asked again"),
    ("outage", "Outage: never reached, fails in the end"),
    ("blackout", "Blackout: no answer at all, needs review"),
)
_REQUEST_FIELDS = ("amount", "currency", "description", "customerEmail")


def show_pay(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/pay."""
    visit.require(Permission.PAY)
    visit.show(
        "pay.html",
        open_requests=visit.api.get("/payments", {"type": "initiate", "status": "initiated", "limit": 10}),
        values=visit.query("amount", "currency", "description", "simulate") | visit.form,
        error=error,
        **_choices(visit),
    )


def pay(visit: Visit) -> None:
    """POST /console/pay."""
    _pay(visit, visit.fields("amount", "currency", "description"))


def show_request_to_pay(visit: Visit, request_id: UUID, *, error: ApiError | None = None) -> None:
    """GET /console/pay/{request_id}: the link that a vendor sends to a customer."""
    request = visit.api.get(f"/payments/{request_id}")
    visit.show("pay-request.html", request=request, values=visit.form, error=error, **_choices(visit))


def pay_request(visit: Visit, request_id: UUID) -> None:
    """POST /console/pay/{request_id}."""
    # What the customer saw: if the request has changed since, nothing is paid.
    seen = visit.fields("amount", "currency")
    _pay(visit, {"requestId": str(request_id), **seen}, If_Match=visit.form.get("version", '""'))


def _pay(visit: Visit, body: dict[str, str], **headers: str) -> None:
    simulate = visit.form.get("simulate")
    metadata = {"metadata": {"simulate": simulate}} if simulate else {}
    paid = visit.api.post(
        "/payments", {"type": "payment", **body, **metadata}, Idempotency_Key=_key(visit), **headers
    )
    visit.go(f"/console/payments/{paid['id']}")


def show_requests(visit: Visit) -> None:
    """GET /console/requests."""
    query = visit.query("status", "cursor")
    requests = visit.api.get("/payments", {"type": "initiate", **query})
    visit.show("requests.html", requests=requests, query=query)


def show_new_request(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/requests/new."""
    visit.require(Permission.REQUEST_MONEY)
    visit.show("request-new.html", values=visit.form, error=error, **_choices(visit))


def make_request(visit: Visit) -> None:
    """POST /console/requests/new."""
    body = {"type": "initiate", **visit.fields(*_REQUEST_FIELDS)}
    made = visit.api.post("/payments", body, Idempotency_Key=_key(visit))
    visit.go(f"/console/requests/{made['id']}")


def show_request(visit: Visit, request_id: UUID, *, error: ApiError | None = None) -> None:
    """GET /console/requests/{request_id}: its link, and what became of it."""
    request = visit.api.get(f"/payments/{request_id}")
    visit.show(
        "request.html",
        request=request,
        payments=visit.api.get("/payments", {"requestId": str(request_id)}),
        values=visit.form or request,
        error=error,
        currencies=[(code, code) for code in sorted({*CURRENCIES, request["currency"]})],
        link=f"{visit.console.public_url}/console/pay/{request_id}",
    )


def change_request(visit: Visit, request_id: UUID) -> None:
    """POST /console/requests/{request_id}: changes or cancels it."""
    path = f"/payments/{request_id}"
    if "cancel" in visit.form:
        visit.api.delete(path)
        notice = "The request is being cancelled."
    else:
        changes = {name: visit.form.get(name) for name in _REQUEST_FIELDS}
        visit.api.put(path, changes, If_Match=visit.form.get("version", '""'))
        notice = "The request is changed. A customer who has it open has to look again before paying."
    visit.go(f"/console/requests/{request_id}", notice)


def _key(visit: Visit) -> str:
    """Returns the Idempotency-Key of the form, so that a form that is sent twice pays once."""
    return visit.form.get("key") or str(uuid4())


def _choices(visit: Visit) -> dict[str, Any]:
    scenarios = () if visit.console.environment == "production" else SCENARIOS
    return {"key": str(uuid4()), "currencies": [(code, code) for code in CURRENCIES], "scenarios": scenarios}
