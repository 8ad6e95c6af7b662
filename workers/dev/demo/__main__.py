"""`make demo`: the life of four payments on the running stack, and everything written about them."""

import sys
import time
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from db.users import Role
from workers.dev import Failure
from workers.dev.demo.running_stack import RunningStack, run

SETTLE_TIMEOUT_S = 30.0
RECORD_TIMEOUT_S = 10.0
ENDED = ("completed", "failed", "cancelled")
COLOURS = {"initiated": "cyan", "completed": "green", "failed": "red", "cancelled": "red"}
# How each must end: its status, and what the PSP has decided.
ENDS = {
    "request": ("completed", set()),
    "payment": ("completed", {"charged"}),
    "declined": ("failed", {"declined"}),
    "lost": ("completed", {"charged"}),
}


def main() -> int:
    """Runs the command. Returns 0 when every payment ended as it must."""
    return run(show)


def show(stack: RunningStack) -> None:
    """Makes the payments, then shows everything that is written about each. Raises Failure."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    console = Console(highlight=False)
    console.print(f"[bold]The life of a payment[/], at {stack.http.base_url}: {stack.health()}")
    vendor, customer = map(stack.sign_in, (Role.VENDOR, Role.CUSTOMER))
    vera, carl = (str(user["user"]["name"]).split()[0] for user in (vendor, customer))
    ids: dict[str, str] = {}

    def step(name: str, title: str, user: dict[str, Any], body: dict[str, Any]) -> None:
        console.print(f"\n[bold]{len(ids) + 1}  {escape(title)}[/]")
        ids[name] = _pay(console, stack, user["accessToken"], body)

    email = customer["user"]["email"]
    body = {
        "type": "initiate",
        "amount": "80.00",
        "description": "Two concert tickets",
        "customerEmail": email,
    }
    step("request", f"{vera} asks {carl} for 80.00 USD", vendor, body)
    body = {"type": "payment", "requestId": ids["request"]}
    step("payment", f"{carl} pays, which completes the request", customer, body)
    declined, lost = {"simulate": "decline:insufficient_funds"}, {"simulate": "timeout"}
    body = {"type": "payment", "amount": "19.99", "currency": "EUR", "metadata": declined}
    step("declined", f"{carl} spends 19.99 EUR that are not there", customer, body)
    body = {"type": "payment", "amount": "5.00", "currency": "CHF", "metadata": lost}
    step("lost", f"{carl} pays 5.00 CHF, and the PSP's answer is lost", customer, body)

    console.print("\n[bold]What is written about each[/], in ms since its creation")
    admin = stack.sign_in(Role.ADMIN)["accessToken"]
    for name, id in ids.items():
        console.print(f"\n[bold cyan]{name}[/]")
        items = complete_timeline(stack, admin, id, name)
        began = datetime.fromisoformat(items[0]["at"])
        for item in items:
            ms = 1000 * (datetime.fromisoformat(item["at"]) - began).total_seconds()
            console.print(f"{ms:6.0f}  {item['kind']:<10}  {escape(item['title'])}")
    console.print("\n80.00 USD and 5.00 CHF were paid and charged once; 19.99 EUR were never taken.")
    console.print("How that works: [bold]docs/life-of-a-payment.md[/]")


def _pay(console: Console, stack: RunningStack, token: str, body: dict[str, Any]) -> str:
    """Creates a payment, shows its statuses until it settles; returns its id. Raises Failure."""
    began = time.monotonic()
    payment = stack.call("POST", "/payments", token, body)
    source = "POST /payments"
    while True:
        ms = 1000 * (time.monotonic() - began)
        console.print(f"{ms:6.0f} ms  {source:<18} {_coloured(payment['status'])}")
        if payment["failure"]:
            console.print(f"           the PSP said [red]{escape(payment['failure']['code'])}[/]")
        if payment["status"] in (*ENDED, "initiated"):
            return str(payment["id"])
        if ms > 1000 * SETTLE_TIMEOUT_S:
            raise Failure(f"not settled after {SETTLE_TIMEOUT_S:.0f} s: are all workers up?")
        payment, source = stack.next_version(payment, token), "GET /payments/:id"


def complete_timeline(stack: RunningStack, admin: str, id: str, name: str) -> list[dict[str, Any]]:
    """Returns what happened to a payment, when all is written. Raises Failure if it differs from ENDS."""
    deadline = time.monotonic() + RECORD_TIMEOUT_S
    while True:
        timeline = stack.call("GET", f"/payments/{id}/timeline", admin)
        items = [item for item in timeline["items"] if not item.get("due")]
        transitions, audit, events, calls = (
            [item["data"] for item in items if item["kind"] == kind]
            for kind in ("transition", "audit", "event", "pspCall")
        )
        status, published = transitions[-1]["to"], sum(event["published"] for event in events)
        # A change has one audit entry and one event; the end has one event more.
        if len(audit) == len(transitions) == published - (status in ENDED):
            break
        if time.monotonic() > deadline:
            raise Failure(f"the {name} still lacks audit entries or published events")
        time.sleep(0.05)
    decisions = {call["outcome"] for call in calls} & {"charged", "declined"}
    if (status, decisions) != ENDS[name]:
        raise Failure(f"the {name} ended {status}, the PSP decided {decisions}: expected {ENDS[name]}")
    return items


def _coloured(text: str) -> str:
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else escape(text)


if __name__ == "__main__":
    sys.exit(main())
