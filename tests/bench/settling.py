"""Measures payments from their POST to the last thing that is written about them, at saturation and when idle."""

import json
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from tests.bench.database import Database
from tests.bench.load import Load, LoadFailed
from tests.bench.options import Options
from tests.bench.resources import Processes, used_ms
from tests.bench.stack import Paywright, Stores, paywright
from tests.bench.targets import PAYMENT, Ours
from tests.makers import until
from workers.dev.servers import HOST

CONNECTIONS = 16
# More are posted only while fewer than this wait for their end: the rate is that of the slowest step.
BACKLOG = 300
BURST_S = 1.0
DRAIN_TIMEOUT_S = 900
# What every payment leaves: created, begun, ended, the last with an event of its own; and one mail.
RECORDS = {"history": 3, "audit": 3, "events": 4, "mails": 1}
# As idle as between two payments of a quiet day.
QUIET_S = 0.3
# The latency that is measured may be longer than the true one by so much and a round trip to the database.
STATUS_POLL_S = 0.0002


class Whole:
    """The whole stack with its users."""

    def __init__(self, stack: Paywright, stores: Stores) -> None:
        self.stack = stack
        self.api = Ours(stack.url)
        self.api.prepare()
        self.database = Database(stack.database_url)
        self.processes = Processes(stores, stack.pids)
        self.mails = stack.directory / "mail"

    def drain(self) -> None:
        """Waits until nothing is left to do."""
        until(lambda: self.database.undone() == 0, DRAIN_TIMEOUT_S)

    def settle(self, seconds: float, *, statements: bool = False) -> dict[str, Any]:
        """Makes payments for so long at the rate at which they settle; returns what they cost in all.

        Until nothing is left to do: history, audit entries, events and mails included.
        """
        self.api.renew()
        self.drain()
        before, cpu = self._written(), self.processes.cpu_seconds()
        loads: list[Load] = []
        with self.database.counting(statements=statements) as counted:
            started = time.perf_counter()
            while time.perf_counter() - started < seconds:
                if self.database.unended() < BACKLOG:
                    loads.append(self.api.drive(self.api.calls()["create"], CONNECTIONS, BURST_S))
                else:
                    time.sleep(0.02)
            self.drain()
            elapsed = time.perf_counter() - started
        after = self._written()
        made = {name: after[name] - before[name] for name in after}
        self._check(made)
        payments = made["payments"]
        return {
            "payments": payments,
            "seconds": elapsed,
            "rate": payments / elapsed,
            "post p50": statistics.median(load.p50 for load in loads),
            "post p95": statistics.median(load.p95 for load in loads),
            "cpu": used_ms(cpu, self.processes.cpu_seconds(), payments),
            "wal kB": counted.wal_bytes / 1000 / payments,
            "write transactions": counted.write_transactions / payments,
            "statements": sum(calls for calls, _, _ in counted.statements or ()) / payments,
            "wal by table": [(name, size / 1000 / payments) for name, size in counted.wal_by_table or ()][
                :12
            ],
            "longest statements": [
                (round(calls / payments, 2), round(ms / payments, 3), " ".join(query.split())[:150])
                for calls, ms, query in (counted.statements or ())[:40]
            ],
        }

    def latency(self, payments: int) -> dict[str, Any]:
        """Makes one payment after the other on the idle stack; returns the milliseconds to its begin and end.

        From the moment when the complete request is sent: what a client does before is not ours.
        """
        begun, ended = [], []
        user = self.api.writers[0]
        self.api.sign_in(user)
        for number in range(payments):
            self.drain()
            time.sleep(QUIET_S)
            headers = {"Idempotency-Key": f"idle-{time.time()}-{number}"}
            request = self.api.raw("POST", "/api/payments", user, PAYMENT, headers).encode()
            with socket.create_connection((HOST, self.stack.port)) as client:
                started = time.perf_counter()
                client.sendall(request)
                response = HTTPResponse(client)
                response.begin()
                made = json.load(response)["data"]
            statuses = self._statuses(made["id"])
            begun.append(1000 * (next(statuses) - started))
            ended.append(1000 * (next(statuses) - started))
        return {"begun": begun, "ended": ended}

    def _statuses(self, id: str) -> Iterator[float]:
        """Yields the moments at which the payment has left `pending`, and `processing`."""
        for left in (("pending",), ("pending", "processing")):
            while self.database.rows("SELECT status FROM payments.payments WHERE id = %s", id)[0][0] in left:
                time.sleep(STATUS_POLL_S)
            yield time.perf_counter()

    def idle(self, seconds: float) -> dict[str, float]:
        """Returns the share of a core that each process uses when there is nothing to do, in percent."""
        self.drain()
        time.sleep(2)
        before = self.processes.cpu_seconds()
        time.sleep(seconds)
        after = self.processes.cpu_seconds()
        return {name: 100 * (after[name] - before[name]) / seconds for name in after}

    def _written(self) -> dict[str, int]:
        mails = sum(1 for _ in self.mails.iterdir()) if self.mails.exists() else 0
        return {**self.database.records(), "mails": mails}

    def _check(self, made: dict[str, int]) -> None:
        """Every payment has its history, audit entries, events, and one mail. Raises LoadFailed."""
        payments = made["payments"]
        for name, each in RECORDS.items():
            if made[name] != each * payments:
                raise LoadFailed(f"{payments} payments left {made[name]} {name} instead of {each} each")


@contextmanager
def whole(stores: Stores, directory: Path) -> Iterator[Whole]:
    """Starts every process of the Procfile, and makes the users."""
    with paywright(stores, directory, name="whole", redis_number=2) as stack:
        made = Whole(stack, stores)
        yield made
        made.api.http.close()
        made.database.close()


def rounds(whole: Whole, options: Options) -> list[dict[str, Any]]:
    """Settles payments in several rounds; the last one, shorter, counts each statement, too."""
    made = []
    for number in range(options.rounds):
        # One long run shows whether the rate lasts; the others, how much it varies.
        seconds = options.settle_seconds if number == 0 else options.settle_seconds / 3
        made.append(whole.settle(seconds))
        options.say(f"settled {made[-1]['rate']:.0f}/s, {sum(made[-1]['cpu'].values()):.1f} ms of CPU each")
    return [*made, whole.settle(options.seconds, statements=True)]
