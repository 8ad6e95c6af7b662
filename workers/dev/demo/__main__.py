"""`make demo`: the life of four payments on the running stack, and everything written about them."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.markup import escape

from db import postgres
from db.users import Role
from workers.dev import Failure
from workers.dev.demo.running_stack import RunningStack, run

SETTLE_TIMEOUT_S = 30.0
RECORD_TIMEOUT_S = 10.0
ENDED = ("completed", "failed", "cancelled")
COLOURS = {"initiated": "cyan", "completed": "green", "failed": "red", "cancelled": "red"}
# How each must end: its status, and what the PSP has booked.
ENDS = {
    "request": ("completed", []),
    "payment": ("completed", ["charged"]),
    "declined": ("failed", ["declined"]),
    "lost": ("completed", ["charged"]),
}
# Everything that is written about one payment, with the time in ms since its creation. Published events only.
RECORDS = """
WITH written (at, place, what, details) AS (
    SELECT created_at, 'payment_transactions', status, concat_ws(', ', transaction_type,
           'by ' || coalesce((SELECT name FROM auth.users WHERE id = actor_id), 'a worker'),
           regexp_replace(reason, '(-[0-9a-f]{4}){3}-[0-9a-f]{12}', ''))
      FROM payments.payment_transactions WHERE payment_id = %(id)s
    UNION ALL
    SELECT created_at, 'audit_logs', action, 'request ' || left(request_id, 8)
      FROM admin.audit_logs WHERE resource_id = %(id)s
    UNION ALL
    SELECT occurred_at, 'events', type, 'seq ' || seq
      FROM admin.events WHERE seq IN (SELECT admin.events_about(%(id)s))
       AND seq <= (SELECT seq FROM admin.event_publication)
    UNION ALL
    SELECT created_at, 'psp_attempts', operation, concat_ws(', ', outcome, code)
      FROM payments.psp_attempts WHERE payment_id = %(id)s
    UNION ALL
    SELECT created_at, 'charges', outcome, concat_ws(' ', amount, currency, code)
      FROM psp.charges WHERE payment_id = %(id)s
)
SELECT (1000 * extract(epoch FROM at - min(at) OVER ()))::int AS ms, place AS table, what,
       coalesce(details, '') AS details
  FROM written ORDER BY at
"""


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
    postgres.configure(stack.database_url, connections=1)
    with postgres.connection():
        for name, id in ids.items():
            console.print(f"\n[bold cyan]{name}[/]")
            for ms, table, what, details in (record.values() for record in written(id, name)):
                shown = what.ljust(27).replace(what, _coloured(what))
                line = f"{ms:6}  {table:<21} {shown} {escape(details)}"
                console.print(line, no_wrap=True, overflow="ellipsis", crop=False)
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


def written(id: str, name: str) -> list[dict[str, Any]]:
    """Returns the complete records of a payment. Raises Failure if they differ from ENDS."""
    deadline = time.monotonic() + RECORD_TIMEOUT_S
    while True:
        records = postgres.rows(RECORDS, id=id)
        history, audit, events, charges = (
            [record["what"] for record in records if record["table"] == table]
            for table in ("payment_transactions", "audit_logs", "events", "charges")
        )
        # A change has one audit entry and one event; the end has one event more.
        if history and len(audit) == len(history) == len(events) - (history[-1] in ENDED):
            break
        if time.monotonic() > deadline:
            if not history:  # two stacks that started at the same moment may have chosen the same port
                raise Failure(
                    f"the {name} is not in this database: another Paywright answers at this address"
                )
            raise Failure(f"the {name} still lacks audit entries or published events")
        time.sleep(0.05)
    if (history[-1], charges) != ENDS[name]:
        raise Failure(f"the {name} ended {history[-1]}, the PSP booked {charges}: expected {ENDS[name]}")
    return records


def _coloured(text: str) -> str:
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else escape(text)


if __name__ == "__main__":
    sys.exit(main())
