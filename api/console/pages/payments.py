"""Payments and requests: the list, the history, and one with its states, its past and its actions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from api.console import diagram
from api.console.client import ApiError, Data
from api.console.rendering import ago, scaled
from api.console.visits import Visit
from db.users import Role

STATUSES = ("pending", "initiated", "processing", "completed", "failed", "cancelled")
_FILTERS = ("status", "type", "currency", "from", "to", "requestId", "needsReview", "cursor")
# How the timeline's filter names its kinds.
KINDS = {
    "transition": "Transitions",
    "pspCall": "PSP calls",
    "event": "Events",
    "audit": "Audit",
    "mail": "Mails",
    "job": "Jobs",
}
# Usually long enough for the change to be done before the page is shown.
_WAIT = "wait=3"
_NOTICES = {
    "cancel": "The cancellation was accepted.",
    "fail": "The change was accepted.",
    "update": "The description was changed.",
    "pay": "The payment was accepted.",
}


def show_list(visit: Visit) -> None:
    """GET /console/payments."""
    query = visit.query(*_FILTERS)
    payments, error = visit.search("/payments", query)
    statuses = [(status, status.capitalize()) for status in STATUSES]
    visit.show("payments.html", payments=payments, query=query, error=error, statuses=statuses)


def show_history(visit: Visit) -> None:
    """GET /console/history: every change of status."""
    query = visit.query("paymentId", "from", "to", "cursor")
    history, error = visit.search("/payments/history", query)
    visit.show("history.html", history=history, query=query, error=error)


def show(visit: Visit, payment_id: UUID, *, error: ApiError | None = None) -> None:
    """GET /console/payments/{payment_id}."""
    is_admin = visit.user["role"] == Role.ADMIN
    payment = visit.api.get(f"/payments/{payment_id}")
    timeline = _timeline(visit, payment_id)
    items = timeline["items"] if timeline else []
    kind = visit.req.get_param("kind") or ""
    transitions = [item["data"] for item in items if item["kind"] == "transition"]
    visit.show(
        "payment.html",
        payment=payment,
        diagrams=[diagram.draw(payment, transitions, layout) for layout in ("wide", "tall")],
        timeline=timeline,
        entries=[
            _entry(item, items[0], payment, with_code=is_admin)
            for item in items
            if kind not in KINDS or item["kind"] == kind
        ],
        kinds={name: label for name, label in KINDS.items() if is_admin},
        kind=kind,
        events=[item for item in items if item["kind"] == "event"],
        attempts=visit.api.get(f"/payments/{payment_id}/attempts", {"limit": 100}) if is_admin else None,
        audit=visit.api.get("/admin/audit-logs", {"resourceId": payment_id}) if is_admin else None,
        action=visit.form.get("action", ""),
        values=visit.form,
        error=error,
    )


def change(visit: Visit, payment_id: UUID) -> None:
    """POST /console/payments/{payment_id}."""
    action = visit.form.get("action", "")
    changed = _change(visit, payment_id, action)
    visit.go(f"/console/payments/{changed['id']}", _NOTICES.get(action, ""))


def _change(visit: Visit, payment_id: UUID, action: str) -> Data:
    """Does what a button asks for; returns the payment to show. Raises ApiError."""
    form, path = visit.form, f"/payments/{payment_id}"
    if action == "update":
        return visit.api.put(
            path, {"description": form.get("description")}, If_Match=form.get("version", "*")
        )
    # The same key each time the form of this version is sent: a second click changes nothing.
    key = str(uuid5(NAMESPACE_URL, f"{visit.req.path}/{action}/{form.get('version')}/{visit.user['id']}"))
    if action == "pay":
        body = {
            "type": "payment",
            "requestId": str(payment_id),
            "amount": form.get("amount"),
            "currency": form.get("currency"),
        }
        return visit.api.post("/payments", body, Idempotency_Key=key)
    change = {"status": "failed" if action == "fail" else "cancelled"}
    change |= {"reason": form["reason"]} if "reason" in form else {}
    return visit.api.post(f"{path}/status", change, Idempotency_Key=key, Prefer=_WAIT)


def _timeline(visit: Visit, payment_id: UUID) -> Data | None:
    """Returns the timeline; None for a payment request that the visitor may only pay."""
    try:
        return visit.api.get(f"/payments/{payment_id}/timeline")
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def _entry(
    item: Mapping[str, Any], first: Mapping[str, Any], payment: Mapping[str, Any], *, with_code: bool
) -> dict[str, Any]:
    """Returns an item of the timeline with its offset from the first one, or with the time until it is due.

    `place` is the code that made a transition, for an administrator (`with_code`); otherwise it is empty.
    """
    if item.get("due"):
        when = ago(item["at"])
        return {"item": item, "offset": when if when.startswith("in ") else "now", "place": ""}
    seconds = (datetime.fromisoformat(item["at"]) - datetime.fromisoformat(first["at"])).total_seconds()
    size, unit = scaled(seconds)
    is_shown = with_code and item["kind"] == "transition"
    return {
        "item": item,
        "offset": f"+{size:.3f} s" if unit == "s" else f"+{size:.1f} {unit}",
        "place": diagram.code_of(payment, item["data"]) if is_shown else "",
    }
