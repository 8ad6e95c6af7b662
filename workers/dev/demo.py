"""`make demo`: the life of a payment on the running stack, told over HTTP, its events heard live."""

import json
import queue
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from redis.client import PubSub
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from actors import events
from db import audit_log, event_log, payments, postgres, psp_attempts, psp_ledger, redis
from workers.dev.client import Door, Trouble, running
from workers.dev.stack import DEMO_USERS

SECONDS = 30.0
MOVING = ("pending", "processing")
COLOURS = {"initiated": "cyan", "completed": "green", "failed": "red", "cancelled": "red"}
# How each must end: its status, and what the PSP has booked for it.
ENDS = {
    "request": ("completed", []),
    "payment": ("completed", ["charged"]),
    "declined": ("failed", ["declined"]),
    "lost": ("completed", ["charged"]),
}
# The tables at the end: their columns, and the field of the row where it has another name.
TABLES = {
    "What happened: payments.payment_transactions": (
        "ms=created_at step=transaction_type status by=actor_id reason"
    ),
    "Who did it: admin.audit_logs": (
        "ms=created_at action from=details.from to=details.to request=request_id"
    ),
    "What was told: admin.events": "ms=occurred_at published=published_at seq type status=data.status",
    "What the PSP was asked: payments.psp_attempts": "ms=created_at answered=ended_at operation outcome code",
    "What the PSP booked: psp.charges": ("ms=created_at outcome amount currency code key=idempotency_key"),
}
NUMBERS = ("ms", "published", "answered", "seq", "amount")
UUID_TAIL = re.compile(r"(?<=\b[0-9a-f]{8})(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

Book = Mapping[str, Sequence[Any]]


class Story:
    """What is done at the door and everything that comes of it, told in the order in which it is seen."""

    def __init__(self, console: Console, door: Door) -> None:
        self.console, self.door = console, door
        self.seen: queue.Queue[tuple[float, dict[str, Any]]] = queue.Queue()
        self.names: dict[str, str] = {}
        self.status: dict[str, str] = {}
        self.told: set[int] = set()
        self.listening = False
        self.began = 0.0

    def listen(self, url: str) -> None:
        """Hears the channel from now on; with Redis away, the door is asked instead."""

        def hear(message: dict[str, Any]) -> None:
            self.seen.put((time.monotonic(), json.loads(message["data"])))

        def deaf(_error: BaseException, _channel: PubSub, _thread: Any) -> None:
            self.listening = False
            time.sleep(0.5)

        channel: PubSub = redis.connect(url).pubsub()  # type: ignore[no-untyped-call]
        try:
            channel.subscribe(**{events.CHANNEL: hear})
            channel.get_message(timeout=1)  # the confirmation: what is said from here on is heard
            self.listening = True
        except redis.Unreachable:
            self.console.print("[yellow]Redis does not answer: the door is asked until it does[/]")
        channel.run_in_thread(sleep_time=0.1, daemon=True, exception_handler=deaf)

    def step(self, title: str, token: str, name: str, wish: dict[str, Any], *, moves: str = "") -> str:
        """One wish at the door, until what it made and what moves with it are settled; the made one's id."""
        self.console.print(f"\n[bold]{escape(title)}[/]")
        self.began = time.monotonic()
        made = self.door.ask("POST", "/payments", token, wish)
        answered = time.monotonic()
        self.names[made["id"]] = name
        self.status.pop(moves, None)
        # In the queue like all the rest: an event may have been faster than the answer.
        self.seen.put((answered, {"type": "POST /payments", "data": made}))
        self._until_settled(token, [made["id"], *filter(None, [moves])])
        door, settled = (1000 * (at - self.began) for at in (answered, time.monotonic()))
        self.console.print(f"           answered in {door:.0f} ms, settled in [bold]{settled:.0f} ms[/]")
        return str(made["id"])

    def _until_settled(self, token: str, ids: list[str]) -> None:
        pause = 1.0 if self.listening else 0.2
        while moving := [id for id in ids if self.status.get(id, "pending") in MOVING]:
            left = self.began + SECONDS - time.monotonic()
            if left <= 0:
                name, status = self.names[moving[0]], self.status.get(moving[0], "pending")
                raise Trouble(f"the {name} is still {status} after {SECONDS:.0f} s: are all workers up?")
            try:
                self._tell(*self.seen.get(timeout=min(pause, left)))
            except queue.Empty:
                pause *= 1.5
                for id in moving:
                    now = self.door.ask("GET", f"/payments/{id}", token)
                    if now["status"] != self.status.get(id):
                        self._tell(time.monotonic(), {"type": "GET /payments/:id", "data": now})

    def _tell(self, at: float, event: dict[str, Any]) -> None:
        seq, type, data = event.get("seq", 0), event["type"], event["data"]
        name = self.names.get(data.get("id"))
        if name is None or seq in self.told:  # somebody else's, or delivered again
            return
        self.told |= {seq} - {0}
        # An end is announced twice, as `updated` and under its own name: with the second it is reached.
        reached = type != events.EventType.PAYMENT_UPDATED or data["status"] in (*MOVING, "initiated")
        if reached:
            self.status[data["id"]] = data["status"]
        ms, source = 1000 * (at - self.began), f"event #{seq}" if seq else "door"
        self.console.print(f"{ms:6.0f} ms  {source:<12} {type:<28} {name:<9} {_coloured(data['status'])}")
        if reached and data["failure"]:
            self.console.print(f"           the PSP said [red]{escape(data['failure']['code'])}[/]")


def main() -> int:
    """The command: 0 when everything ended as it must."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        run(Console(highlight=False))
    except (Trouble, OSError, *postgres.TRANSIENT_ERRORS) as trouble:
        line = " ".join(str(trouble).split())
        Console(stderr=True).print(line, style="red", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(console: Console) -> None:
    """The story, then what the books say of it. Raises Trouble."""
    with running() as stack:
        story = Story(console, stack.door)
        console.print(f"[bold]The life of a payment[/], told by {stack.base_url}: {story.door.health()}")
        people = [story.door.sign_in(email, stack.sessions) for email in DEMO_USERS[1:]]
        postgres.configure(stack.database_url, connections=2)
        with postgres.connection():
            since = event_log.last_seq()
        story.listen(stack.redis_url)
        live(story, *people)
    books = _books(story.names, since)
    _found(books)
    console.print("\n[bold]And what is written down[/], in ms since each one's creation")
    for table in TABLES:
        console.print("", _table(table, books, {it["user"]["id"]: _first(it) for it in people}))
    _judge(books)
    console.print("\n80.00 USD and 5.00 CHF were paid and charged once; 19.99 EUR were never taken.")
    console.print("How that works: [bold]docs/life-of-a-payment.md[/]")


def live(story: Story, vendor: dict[str, Any], customer: dict[str, Any]) -> None:
    """Money asked for, paid, refused, and paid without our being told."""
    vera, carl, token = _first(vendor), _first(customer), customer["accessToken"]
    wish: dict[str, Any] = {"type": "initiate", "amount": "80.00", "currency": "USD"}
    wish |= {"description": "Two concert tickets", "customerEmail": customer["user"]["email"]}
    request = story.step(f"1  {vera} asks {carl} for 80.00 USD", vendor["accessToken"], "request", wish)
    wish = {"type": "payment", "requestId": request}
    story.step(f"2  {carl} pays, which completes the request", token, "payment", wish, moves=request)
    wish = {"type": "payment", "amount": "19.99", "currency": "EUR"}
    wish |= {"metadata": {"simulate": "decline:insufficient_funds"}}
    story.step(f"3  {carl} spends 19.99 EUR that are not there", token, "declined", wish)
    wish = {"type": "payment", "amount": "5.00", "currency": "CHF", "metadata": {"simulate": "timeout"}}
    story.step(f"4  {carl} pays 5.00 CHF, and the PSP's answer is lost", token, "lost", wish)


def _books(names: Mapping[str, str], since: int) -> dict[str, Book]:
    """All that is written down about each, once the actors are done with it or had the time to be."""
    deadline = time.monotonic() + SECONDS / 3
    while True:
        with postgres.connection():
            books = {name: _book(UUID(id), since) for id, name in names.items()}
        if all(map(_complete, books.values())) or time.monotonic() > deadline:
            return books
        time.sleep(0.05)


def _book(id: UUID, since: int) -> Book:
    log = [event for event in event_log.after(since, 10_000) if event.data.get("id") == str(id)]
    charge = psp_ledger.find(str(id))
    rows = payments.history(id), audit_log.of_resource(id), log, psp_attempts.for_payment(id)
    return dict(zip(TABLES, (*rows, [charge] if charge else []), strict=True))


def _complete(book: Book) -> bool:
    """A change has one audit row and one event, the end an event besides, and all are published."""
    history, audit, log, *_ = book.values()
    if not history:
        return False
    ended = history[-1].status in ("completed", "failed")
    return len(audit) == len(history) == sum(it.published_at is not None for it in log) - ended


def _found(books: Mapping[str, Book]) -> None:
    """Raises Trouble: two stacks that were started at the same moment may have chosen the same port."""
    for name, (history, *_) in ((name, tuple(book.values())) for name, book in books.items()):
        if not history:
            raise Trouble(f"the {name} is not in this database: another Paywright answers at this address")


def _judge(books: Mapping[str, Book]) -> None:
    for name, book in books.items():
        history, *_, charges = book.values()
        end, booked = history[-1].status, [it.outcome for it in charges]
        if (end, booked) != ENDS[name]:
            raise Trouble(
                f"the {name} ended {end}, the PSP booked {booked or 'nothing'}: expected {ENDS[name]}"
            )
        if not _complete(book):
            raise Trouble(f"the {name} still lacks audit rows or published events")


def _table(table: str, books: Mapping[str, Book], people: Mapping[str, str]) -> Table:
    """One of TABLES, its times counted from each one's creation."""
    columns = {
        name: source or name for name, _, source in (it.partition("=") for it in TABLES[table].split())
    }
    grid = Table(box=None, padding=(0, 2, 0, 0), title=table, title_justify="left", title_style="cyan")
    for column in ("of", *columns):
        grid.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)

    def cell(row: Any, source: str, start: datetime) -> str:
        name, _, key = source.partition(".")
        value = getattr(row, name)[key] if key else getattr(row, name)
        if isinstance(value, datetime):
            return f"{1000 * (value - start).total_seconds():.0f}"
        if name == "actor_id":
            return people.get(str(value), "a worker")
        return _coloured(UUID_TAIL.sub("", "" if value is None else str(value)))

    for name, book in books.items():
        start = next(iter(book.values()))[0].created_at
        for place, row in enumerate(book[table]):
            cells = (cell(row, source, start) for source in columns.values())
            grid.add_row("" if place else f"[bold]{name}[/]", *cells)
    return grid


def _coloured(text: str) -> str:
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else escape(text)


def _first(signed_in: dict[str, Any]) -> str:
    return str(signed_in["user"]["name"]).split()[0]


if __name__ == "__main__":
    sys.exit(main())
