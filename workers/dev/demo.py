"""`make demo`: the life of four payments on the running stack, over HTTP, with their events as they come."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from redis.client import PubSub
from rich.console import Console
from rich.markup import escape

from db import postgres, redis
from workers.dev.stack import DEMO_USERS
from workers.dev.token import Stack, Trouble, running

CHANNEL = "events"
SETTLE_TIMEOUT_S = 30.0
RECORD_TIMEOUT_S = 10.0
EVENT_TIMEOUT_S = 1.0
ENDED = ("completed", "failed", "cancelled")
COLOURS = {"initiated": "cyan", "completed": "green", "failed": "red", "cancelled": "red"}
# How each must end: its status, and what the PSP has booked.
ENDS = {
    "request": ("completed", []),
    "payment": ("completed", ["charged"]),
    "declined": ("failed", ["declined"]),
    "lost": ("completed", ["charged"]),
}
TABLES = (
    "payments.payment_transactions",
    "admin.audit_logs",
    "admin.events",
    "payments.psp_attempts",
    "psp.charges",
)
# Everything that is written about one payment, in ms since its creation. Events once they are published.
RECORDS = f"""
WITH written (at, place, what, details) AS (
    SELECT created_at, '{TABLES[0]}', status, concat_ws(', ', transaction_type,
           'by ' || coalesce((SELECT name FROM auth.users WHERE id = actor_id), 'a worker'),
           regexp_replace(reason, '(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}', ''))
      FROM {TABLES[0]} WHERE payment_id = %(id)s
    UNION ALL
    SELECT created_at, '{TABLES[1]}', action, 'request ' || left(request_id, 8)
      FROM {TABLES[1]} WHERE resource_id = %(id)s
    UNION ALL
    SELECT published_at, '{TABLES[2]}', type, 'seq ' || seq
      FROM {TABLES[2]} WHERE data ->> 'id' = %(id)s AND published_at IS NOT NULL
    UNION ALL
    SELECT created_at, '{TABLES[3]}', operation, concat_ws(', ', outcome, code)
      FROM {TABLES[3]} WHERE payment_id = %(id)s
    UNION ALL
    SELECT created_at, '{TABLES[4]}', outcome, concat_ws(' ', amount, currency, code)
      FROM {TABLES[4]} WHERE payment_id = %(id)s
)
SELECT (1000 * extract(epoch FROM at - min(at) OVER ()))::int, place, what, coalesce(details, '')
  FROM written ORDER BY at
"""


class Record(NamedTuple):
    """One row of RECORDS."""

    ms: int
    table: str
    what: str
    details: str


class Story:
    """Makes payments and shows what becomes of them, in the order in which it is seen."""

    def __init__(self, console: Console, stack: Stack) -> None:
        self.console, self.stack = console, stack
        self.names: dict[str, str] = {}
        self.statuses: dict[str, str] = {}
        self.last_seq = 0
        self.channel: PubSub = redis.connect(stack.redis_url).pubsub()  # type: ignore[no-untyped-call]
        with suppress(redis.Unreachable):  # without Redis, the API is asked instead
            self.channel.subscribe(CHANNEL)
            self.channel.get_message(timeout=EVENT_TIMEOUT_S)  # the confirmation

    def step(self, title: str, token: str, name: str, body: dict[str, Any], *, moves: str = "") -> str:
        """Send one request, and wait until the new payment and `moves` are settled; the new one's id."""
        self.console.print(f"\n[bold]{escape(title)}[/]")
        began = time.monotonic()
        made = self.stack.call("POST", "/payments", token, body)
        answered = time.monotonic()
        self.names[made["id"]] = name
        self._show(answered - began, "API", "POST /payments", made)
        waiting = {made["id"], *filter(None, [moves])}
        while waiting:
            if time.monotonic() > began + SETTLE_TIMEOUT_S:
                name = self.names[waiting.pop()]
                raise Trouble(
                    f"the {name} is not settled after {SETTLE_TIMEOUT_S:.0f} s: are all workers up?"
                )
            for source, kind, data in self._news(waiting, token):
                self._show(time.monotonic() - began, source, kind, data)
                ended = data["status"] in ENDED or (data["status"] == "initiated" and data["id"] != moves)
                # An end has two events: `updated`, then one of its own name.
                if ended and not (kind.endswith(":updated") and data["status"] in ENDED):
                    waiting.discard(data["id"])
        answer, settled = (1000 * (at - began) for at in (answered, time.monotonic()))
        self.console.print(f"           answered in {answer:.0f} ms, settled in [bold]{settled:.0f} ms[/]")
        return str(made["id"])

    def _news(self, waiting: set[str], token: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The next event; when none comes, what the API says of the payments that are waited for."""
        try:
            message = self.channel.get_message(ignore_subscribe_messages=True, timeout=EVENT_TIMEOUT_S)
        except redis.Unreachable:
            time.sleep(EVENT_TIMEOUT_S)
            message = None
        if message is None:
            for id in list(waiting):
                yield "API", "GET /payments/:id", self.stack.call("GET", f"/payments/{id}", token)
            return
        event = json.loads(message["data"])
        # An event may be delivered twice, and other people may pay meanwhile.
        if event["seq"] > self.last_seq and event["data"].get("id") in self.names:
            self.last_seq = event["seq"]
            yield f"event #{event['seq']}", event["type"], event["data"]

    def _show(self, seconds: float, source: str, kind: str, data: dict[str, Any]) -> None:
        id, status = data["id"], data["status"]
        if source != "API" or self.statuses.get(id) != status:
            what = f"{source:<12} {kind:<28} {self.names[id]:<9} {_coloured(status)}"
            self.console.print(f"{1000 * seconds:6.0f} ms  {what}")
            if data["failure"] and self.statuses.get(id) != status:
                self.console.print(f"           the PSP said [red]{escape(data['failure']['code'])}[/]")
        self.statuses[id] = status


def main() -> int:
    """The command: 0 when every payment ended as it must."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        with running() as stack:
            run(Console(highlight=False), stack)
    except (Trouble, OSError, *postgres.TRANSIENT_ERRORS) as trouble:
        line = " ".join(str(trouble).split())
        Console(stderr=True).print(line, style="red", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(console: Console, stack: Stack) -> None:
    """The story, then everything that is written about it. Raises Trouble."""
    console.print(f"[bold]The life of a payment[/], at {stack.http.base_url}: {stack.health()}")
    vendor, customer = (stack.sign_in(email) for email in DEMO_USERS[1:])
    story, token = Story(console, stack), customer["accessToken"]
    vera, carl = (str(user["user"]["name"]).split()[0] for user in (vendor, customer))

    body: dict[str, Any] = {"type": "initiate", "amount": "80.00", "currency": "USD"}
    body |= {"description": "Two concert tickets", "customerEmail": customer["user"]["email"]}
    request = story.step(f"1  {vera} asks {carl} for 80.00 USD", vendor["accessToken"], "request", body)
    body = {"type": "payment", "requestId": request}
    story.step(f"2  {carl} pays, which completes the request", token, "payment", body, moves=request)
    body = {"type": "payment", "amount": "19.99", "currency": "EUR"}
    body |= {"metadata": {"simulate": "decline:insufficient_funds"}}
    story.step(f"3  {carl} spends 19.99 EUR that are not there", token, "declined", body)
    body = {"type": "payment", "amount": "5.00", "currency": "CHF", "metadata": {"simulate": "timeout"}}
    story.step(f"4  {carl} pays 5.00 CHF, and the PSP's answer is lost", token, "lost", body)

    console.print("\n[bold]What is written about each[/], in ms since its creation")
    postgres.configure(stack.database_url, connections=1)
    with postgres.connection():
        for id, name in story.names.items():
            console.print(f"\n[bold cyan]{name}[/]")
            for ms, table, what, details in written(id, name):
                place, shown = table.partition(".")[2], what.ljust(27).replace(what, _coloured(what))
                line = f"{ms:6}  {place:<21} {shown} {escape(details)}"
                console.print(line, no_wrap=True, overflow="ellipsis", crop=False)
    console.print("\n80.00 USD and 5.00 CHF were paid and charged once; 19.99 EUR were never taken.")
    console.print("How that works: [bold]docs/life-of-a-payment.md[/]")


def written(id: str, name: str) -> list[Record]:
    """All records of a payment, when they are complete. Raises Trouble when they are not as they must be."""
    deadline = time.monotonic() + RECORD_TIMEOUT_S
    while True:
        records = [Record(*row) for row in postgres.database.execute_sql(RECORDS, {"id": id})]
        history, audit, events, _, charges = (
            [record.what for record in records if record.table == table] for table in TABLES
        )
        # A change has one audit entry and one event; the end has one event more.
        if history and len(audit) == len(history) == len(events) - (history[-1] in ENDED):
            break
        if time.monotonic() > deadline:
            if not history:  # two stacks that started at the same moment may have chosen the same port
                raise Trouble(
                    f"the {name} is not in this database: another Paywright answers at this address"
                )
            raise Trouble(f"the {name} still lacks audit entries or published events")
        time.sleep(0.05)
    if (history[-1], charges) != ENDS[name]:
        raise Trouble(f"the {name} ended {history[-1]}, the PSP booked {charges}: expected {ENDS[name]}")
    return records


def _coloured(text: str) -> str:
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else escape(text)


if __name__ == "__main__":
    sys.exit(main())
