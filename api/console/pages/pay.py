"""Pages of a customer who pays: an amount of their own, or a request from its link."""

from typing import Any
from uuid import UUID, uuid4

from api.console.client import ApiError
from api.console.visits import Resource, Visit, page

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


class Pay(Resource):
    """GET, POST /console/pay."""

    @page()
    def on_get(self, visit: Visit) -> None:
        _show(visit, values=visit.query("amount", "currency", "description", "simulate"))

    @page()
    def on_post(self, visit: Visit) -> None:
        body = visit.fields("amount", "currency", "description")
        try:
            _pay(visit, body)
        except ApiError as error:
            _show(visit, values=visit.form, error=error)


class PayRequest(Resource):
    """GET, POST /console/pay/{request_id}: the link that a vendor sends to a customer."""

    @page()
    def on_get(self, visit: Visit, request_id: UUID) -> None:
        _show_request(visit, request_id)

    @page()
    def on_post(self, visit: Visit, request_id: UUID) -> None:
        # What the customer saw: if the request is another one by now, nothing is paid.
        seen = visit.fields("amount", "currency")
        try:
            _pay(visit, {"requestId": str(request_id), **seen}, If_Match=visit.form.get("version", '""'))
        except ApiError as error:
            _show_request(visit, request_id, error=error)


def _pay(visit: Visit, body: dict[str, str], **headers: str) -> None:
    """Makes the payment, and leads to its page. Raises ApiError."""
    simulate = visit.form.get("simulate")
    metadata = {"metadata": {"simulate": simulate}} if simulate else {}
    # The form has the key: sent twice, it pays once.
    key = visit.form.get("key") or str(uuid4())
    paid = visit.api.post(
        "/payments", {"type": "payment", **body, **metadata}, Idempotency_Key=key, **headers
    )
    visit.go(f"/console/payments/{paid['id']}")


def _show(visit: Visit, *, values: dict[str, str], error: ApiError | None = None) -> None:
    asked = visit.api.get("/payments", {"type": "initiate", "status": "initiated", "limit": 10})
    visit.show("pay.html", asked=asked, values=values, error=error, **_choices(visit))


def _show_request(visit: Visit, id: UUID, *, error: ApiError | None = None) -> None:
    request = visit.api.get(f"/payments/{id}")
    visit.show("pay-request.html", request=request, values=visit.form, error=error, **_choices(visit))


def _choices(visit: Visit) -> dict[str, Any]:
    scenarios = () if visit.console.environment == "production" else SCENARIOS
    return {"key": str(uuid4()), "currencies": [(code, code) for code in CURRENCIES], "scenarios": scenarios}
