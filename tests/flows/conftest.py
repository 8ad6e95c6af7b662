"""A whole running stack, on stores that the tests may stop and kill."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg2
import psycopg2.extras
import pytest
import redis

from tests.flows.collector import Collector
from tests.makers import SECRETS, DisposablePostgres, until
from workers.dev.servers import Postgres, Valkey, free_port

# All its processes together use some ten seconds of a processor to start: on a loaded machine, minutes.
START_S = 240


OPEN = "SELECT id FROM payments.payments WHERE id = ANY(%s::uuid[]) AND status IN ('pending', 'processing')"


class Stack:
    """A running stack, with what a test does to it and reads from it."""

    def __init__(
        self,
        directory: Path,
        postgres: Postgres,
        valkey: Valkey,
        *,
        database_url: str | None = None,
        **settings: str,
    ) -> None:
        self.directory, self.postgres, self.valkey = directory, postgres, valkey
        self.settings = settings
        self.database_url = database_url or postgres.url
        self.port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self._database: Any = None
        self._launcher: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts every process of the Procfile, and waits until the API answers."""
        chosen = {
            **SECRETS,
            "APP_ENV": "development",
            "DATA_DIR": str(self.directory),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.valkey.url,
            "PORT": str(self.port),
            **self.settings,
        }
        environment = {name: value for name, value in os.environ.items() if name != "MAKELEVEL"}
        with (self.directory / "log").open("wb") as log:
            launcher = self._launcher = subprocess.Popen(
                [sys.executable, "-m", "workers.dev"], env={**environment, **chosen}, stdout=log, stderr=log
            )
        until(lambda: (self.directory / "stack.env").exists() or launcher.poll() is not None, START_S)
        assert launcher.poll() is None, self.log()
        until(lambda: self.health() == "ok")

    def stop(self) -> None:
        self.http.close()
        self.disconnect()
        if self._launcher:
            self._launcher.send_signal(signal.SIGINT)
            assert self._launcher.wait(120) == 0, self.log()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def pid(self, name: str) -> int:
        """The process of this name, as `payments.1`; waits for one that is being started again."""
        pids = self.directory / "pids.json"
        return int(until(lambda: json.loads(pids.read_text()).get(name)))

    def kill(self, name: str) -> None:
        """kill -9; a process that another kill has just ended is killed when it is back."""

        def killed() -> bool:
            try:
                os.kill(self.pid(name), signal.SIGKILL)
            except ProcessLookupError:
                return False
            return True

        until(killed)

    def pause(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGCONT)

    def expire_leases(self, payment_ids: list[str]) -> None:
        """Ends the leases of a killed worker on jobs of these payments now, instead of in 15 seconds."""
        self.rows(
            "UPDATE journal.jobs SET leased_until = clock_timestamp(), due_at = clock_timestamp()"
            " WHERE args ->> 'payment_id' = ANY(%s) AND leased_until > clock_timestamp() RETURNING id",
            payment_ids,
        )

    def flush(self) -> None:
        """Redis forgets everything."""
        with redis.from_url(self.valkey.url) as client:
            client.flushall()

    def health(self) -> str:
        try:
            return str(self.http.get("/health").json()["status"])
        except httpx.TransportError:
            return "no answer"

    def rows(self, query: str, *params: Any) -> list[dict[str, Any]]:
        """Executes a statement in a transaction of its own; its rows."""
        # Of one connection: to open one takes both sides as long as twenty statements.
        for may_be_lost in (True, False):
            try:
                if self._database is None:
                    self._database = psycopg2.connect(
                        self.postgres.url, cursor_factory=psycopg2.extras.RealDictCursor
                    )
                    self._database.autocommit = True
                with self._database.cursor() as cursor:
                    cursor.execute(query, params)
                    return [dict(row) for row in cursor.fetchall()]
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                # The server was stopped since the last statement.
                self.disconnect()
                if not may_be_lost:
                    raise
        raise AssertionError

    def disconnect(self) -> None:
        """Closes the connection of `rows`."""
        if self._database:
            self._database.close()
        self._database = None

    def all_published(self) -> bool:
        """Whether every event of the log is published."""
        published = "(SELECT seq FROM admin.event_publication)"
        return not self.rows(f"SELECT seq FROM admin.events WHERE seq > {published}")

    def customer(self) -> "Customer":
        body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery", "name": "Jo"}
        data = self.http.post("/api/auth/register", json=body).raise_for_status().json()["data"]
        return Customer(self, {"Authorization": f"Bearer {data['accessToken']}"})


class Customer:
    """A signed-in customer."""

    def __init__(self, stack: Stack, headers: dict[str, str]) -> None:
        self.stack, self.headers = stack, headers

    def post(self, **metadata: Any) -> httpx.Response:
        """Makes a payment."""
        body = {"type": "payment", "amount": "12.50", "metadata": metadata}
        response = self.stack.http.post("/api/payments", json=body, headers=self.headers)
        assert response.status_code == 201, response.text
        return response

    def pay(self, **metadata: Any) -> str:
        """Makes a payment; its id."""
        return str(self.post(**metadata).json()["data"]["id"])

    def status(self, id: str) -> str:
        response = self.stack.http.get(f"/api/payments/{id}", headers=self.headers)
        return str(response.raise_for_status().json()["data"]["status"])

    def settled(self, ids: list[str], seconds: float = 240) -> list[str]:
        """Waits until all of these are final; their statuses, as the API shows them."""
        # Not of the API: many questions would keep from work what is waited for.
        until(lambda: not self.stack.rows(OPEN, ids), seconds)
        return [self.status(id) for id in ids]


@contextmanager
def running_stack(directory: Path, **settings: str) -> Iterator[Stack]:
    """Runs a whole stack on stores of its own."""
    postgres = DisposablePostgres(directory / "postgres", free_port(), "test")
    valkey = Valkey(directory / "valkey", free_port(), "test")
    postgres.start()
    valkey.start()
    stack = Stack(directory, postgres, valkey, **settings)
    try:
        stack.start()
        yield stack
    finally:
        # Also after an interrupt: its processes would go on without their stores.
        stack.stop()
        valkey.stop()
        postgres.stop()


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    with Collector().running() as collector:
        yield collector


# Not of the session: while it waits for the rest of the tests, its processes go on working.
@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stack]:
    # Only the traces that a test begins are recorded.
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    soon = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_EXPORTER_OTLP_TIMEOUT": "3"}
    with running_stack(tmp_path_factory.mktemp("stack"), **traces, **soon) as stack:
        yield stack
