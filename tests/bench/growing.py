"""Measures what a million payments, and a transaction that stays open, do to the same calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg2

from tests.bench import growth
from tests.bench.options import Options
from tests.bench.settling import Whole
from tests.bench.targets import PAGE

CONNECTIONS = 4
READS = ("get", "list", "list of a vendor", "list of an admin", "history")
# The same lists with the filters that an index must serve; of the rarest currency, and of none.
FILTERS = {
    "list by currency": f"/payments?limit={PAGE}&currency=CHF",
    "list by status": f"/payments?limit={PAGE}&status=completed",
    "users by text": f"/admin/users?limit={PAGE}&q=bench-",
}
# Jobs that were done while the transaction was open: none of their rows can be vacuumed.
DONE_JOBS = 200_000
SKIP = "UPDATE admin.subscriptions SET seq = (SELECT max(seq) FROM admin.events)"
SIZE = "SELECT pg_database_size(current_database())"
CHURN = """
INSERT INTO journal.jobs (id, name, queue, args, due_at)
SELECT gen_random_uuid(), 'payments.begin', 'payments', '{}', clock_timestamp() FROM generate_series(1, %s)
"""


def grow(whole: Whole, options: Options) -> dict[str, Any]:
    """Returns the median ms of each read, and the settled rate, before and after the tables have grown."""
    before = _figures(whole, options)
    options.say(f"growing to {options.growth} payments")
    size = whole.database.number(SIZE)
    whole.drain()
    # It would send a mail for each of them.
    subscribers = psutil.Process(whole.processes.roots()["subscribers"])
    subscribers.suspend()
    try:
        growth.fill(whole.stack.database_url, options.growth)
        whole.database.rows(SKIP)
    finally:
        subscribers.resume()
    each = (whole.database.number(SIZE) - size) / options.growth / 1000
    return {
        "payments": options.growth,
        "kB a payment": each,
        "before": before,
        "after": _figures(whole, options),
    }


def hold_snapshot(whole: Whole, options: Options) -> dict[str, Any]:
    """Returns what settling costs before and during a transaction that has seen 200,000 jobs come and go."""
    before = whole.settle(options.seconds)
    with _open_transaction(whole.stack.database_url):
        connection = psycopg2.connect(whole.stack.database_url)
        with connection, connection.cursor() as cursor:
            cursor.execute(CHURN, (DONE_JOBS,))
            cursor.execute("DELETE FROM journal.jobs WHERE args = '{}' AND name = 'payments.begin'")
        connection.close()
        during = whole.settle(options.seconds)
    options.say(f"held snapshot: {before['rate']:.0f}/s, then {during['rate']:.0f}/s")
    return {"before": before, "during": during}


def _figures(whole: Whole, options: Options) -> dict[str, Any]:
    api = whole.api
    api.renew()
    calls = api.calls()
    chosen = {name: calls[name] for name in READS}
    chosen |= {name: api.reads(path, '"success":true', [api.admin]) for name, path in FILTERS.items()}
    figures: dict[str, Any] = {}
    for name, call in chosen.items():
        figures[name] = api.drive(call, CONNECTIONS, options.seconds).p50
        options.say(f"{name}: {figures[name]:.1f} ms")
    return figures | {"settled": whole.settle(options.seconds)["rate"]}


@contextmanager
def _open_transaction(url: str) -> Iterator[None]:
    """Holds a snapshot, as a backup does."""
    connection = psycopg2.connect(url)
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM journal.jobs")
    try:
        yield
    finally:
        connection.close()
