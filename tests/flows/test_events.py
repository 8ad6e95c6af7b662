"""Every subscriber gets every event once, through every outage: on our library, and on REST and Redis alone."""

import os
import re
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import Stack
from tests.makers import SECRETS, until


class Listener(ABC):
    """A subscriber in a process of its own, that a test kills and starts."""

    def __init__(self, log: Path, command: list[str], **environment: str) -> None:
        self._log, self._command, self._environment = log, command, environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env={**os.environ, **self._environment}, stdout=log, stderr=log
            )

    def kill(self) -> None:
        if self._process:
            assert self._process.poll() is None, self._log.read_text()
            self._process.kill()
            self._process.wait(60)
            self._process = None

    @abstractmethod
    def received(self) -> list[tuple[int, str]]:
        """`seq` and `id` of the events, in the order in which they arrived."""

    @abstractmethod
    def count(self) -> int:
        """How many events arrived."""

    def received_more(self, than: int) -> bool:
        return self.count() > than


class Ours(Listener):
    """On the library, in our database."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self._stack = stack
        stores = {"DATABASE_URL": stack.postgres.url, "REDIS_URL": stack.valkey.url}
        super().__init__(
            directory / "ours.log", [sys.executable, "-m", "tests.flows.listener"], **SECRETS, **stores
        )
        stack.rows(
            "CREATE TABLE received (place bigint GENERATED ALWAYS AS IDENTITY, id uuid, seq bigint);"
            " SELECT 1 AS made"
        )

    def received(self) -> list[tuple[int, str]]:
        return [
            (row["seq"], row["id"])
            for row in self._stack.rows("SELECT seq, id::text FROM received ORDER BY place")
        ]

    def count(self) -> int:
        return int(self._stack.rows("SELECT count(*) AS length FROM received")[0]["length"])


class Theirs(Listener):
    """The example of docs/events.md, on REST and Redis alone."""

    def __init__(self, stack: Stack, directory: Path, page: str, *, file: str = "store.db") -> None:
        [example] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        assert example.count("\n") < 60
        (directory / "subscriber.py").write_text(example)
        self._file = directory / file
        super().__init__(
            directory / "theirs.log",
            [sys.executable, str(directory / "subscriber.py")],
            BASE_URL=str(stack.http.base_url),
            REDIS_URL=stack.valkey.url,
            EMAIL="admin@example.com",
            PASSWORD="Paywright-demo-1",
            STORE=str(self._file),
        )

    def received(self) -> list[tuple[int, str]]:
        return self._asked("SELECT seq, id FROM events ORDER BY rowid")

    def count(self) -> int:
        return sum(length for (length,) in self._asked("SELECT count(*) FROM events"))

    def _asked(self, query: str) -> list[tuple[Any, ...]]:
        if not self._file.exists():
            return []
        with sqlite3.connect(self._file) as mine:
            try:
                found = mine.execute(query).fetchall()
            except sqlite3.OperationalError:
                # It has only just begun.
                found = []
        mine.close()
        return found


@pytest.fixture
def listeners(stack: Stack, tmp_path: Path, root: Path) -> Iterator[list[Listener]]:
    both = [Ours(stack, tmp_path), Theirs(stack, tmp_path, (root / "docs/events.md").read_text())]
    yield both
    for listener in both:
        listener.kill()
    stack.rows("DROP TABLE received; SELECT 1 AS gone")


def log_of(stack: Stack) -> list[tuple[int, str]]:
    return [
        (row["seq"], row["id"]) for row in stack.rows("SELECT seq, id::text FROM admin.events ORDER BY seq")
    ]


def up_to_date(stack: Stack, listener: Listener) -> bool:
    # The numbers first: whole logs, compared fifty times a second, are work that a loaded machine waits for.
    [log] = stack.rows("SELECT count(*) AS length FROM admin.events")
    return listener.count() == log["length"] and listener.received() == log_of(stack)


def quiet(stack: Stack) -> None:
    """Waits until every job is done."""
    until(lambda: stack.rows("SELECT count(*) AS n FROM journal.jobs")[0]["n"] == 0, 240)


def test_a_subscriber_that_was_away_gets_every_event_of_a_hundred_payments_once(
    stack: Stack, listeners: list[Listener]
):
    customers = [stack.customer() for _ in range(8)]
    quiet(stack)
    for listener in listeners:
        listener.start()
    for listener in listeners:
        until(partial(up_to_date, stack, listener), 180)
        listener.kill()

    with ThreadPoolExecutor(8) as pool:
        paid = [pool.submit(customers[n % 8].pay) for n in range(60)]
        paid[30].result()
        stack.valkey.stop()
        for one in paid:
            one.result()
        stack.valkey.start()
        paid += [pool.submit(customers[n % 8].pay) for n in range(40)]
        ids = [one.result() for one in paid]
    stack.kill("subscribers.1")
    quiet(stack)
    events = log_of(stack)
    assert [seq for seq, _id in events] == list(range(1, len(events) + 1))
    for listener in listeners:
        assert len(listener.received()) < len(events) - 3 * 100

    # And once more in the middle of what they missed.
    before = [len(listener.received()) for listener in listeners]
    for listener in listeners:
        listener.start()
    for listener, had in zip(listeners, before, strict=True):
        until(partial(listener.received_more, had))
        listener.kill()
    for listener in listeners:
        listener.start()
    # From now on they hear it live, and Redis goes once more.
    stack.valkey.stop()
    stack.valkey.start()
    ids += [customers[0].pay(simulate="decline") for _ in range(10)]
    assert set(customers[0].settled(ids[-10:])) == {"failed"}
    quiet(stack)
    for listener in listeners:
        # Not to be taken once: a listener signs in, which is an event too.
        until(partial(up_to_date, stack, listener), 180)
        events = listener.received()
        assert [seq for seq, _id in events] == list(range(1, len(events) + 1))
        assert len({id for _seq, id in events}) == len(events)

    ended = stack.rows(
        "SELECT data ->> 'id' AS id FROM admin.events WHERE type IN ('payments:payment:completed',"
        " 'payments:payment:failed') AND data ->> 'id' = ANY(%s)",
        ids,
    )
    assert sorted(row["id"] for row in ended) == sorted(ids)


def test_subscribers_survive_a_restart_of_the_database_and_their_own_death(stack: Stack):
    customer = stack.customer()
    stack.pause("subscribers.1")
    ids = [customer.pay() for _ in range(5)]
    assert customer.settled(ids) == ["completed"] * 5
    stack.postgres.stop()
    stack.resume("subscribers.1")
    stack.postgres.start()
    until(lambda: stack.health() == "ok")
    stack.kill("subscribers.1")
    ids += [customer.pay(simulate="decline")]
    customer.settled(ids)
    seen = "SELECT seq FROM admin.subscriptions WHERE name = 'subscribers.payment_mails' AND error IS NULL AND seq >= %s"
    ended = "SELECT max(seq) AS seq FROM admin.events WHERE type = 'payments:payment:failed'"
    until(lambda: stack.rows(seen, stack.rows(ended)[0]["seq"]))
    quiet(stack)
