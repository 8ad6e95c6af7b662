"""/health checks what requests need, and costs little however often it is called."""

import threading
from concurrent.futures import ThreadPoolExecutor

import falcon
import pytest
from falcon.testing import TestClient

from api.http import admission
from api.operations.health import CACHED_FOR_S, Health
from db import postgres, redis


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health_client(stores, clock) -> TestClient:
    """A client of /health alone, with a clock of its own."""
    app = falcon.App()
    app.add_route("/health", Health(redis.connect(stores["REDIS_URL"]), clock))
    return TestClient(app)


def test_a_check_writes_to_the_database(health_client, stores):
    def written_at():
        with postgres.connection():
            return postgres.rows("SELECT written_at FROM journal.health_check")[0]["written_at"]

    before = written_at()
    assert health_client.simulate_get("/health").json["services"]["database"] == "ok"
    assert written_at() > before


def test_a_check_does_not_wait_for_another_writer(health_client, stores):
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connection(), postgres.database.atomic():
            postgres.check_writable()
            held.set()
            end.wait(60)

    with ThreadPoolExecutor(1) as thread:
        holding = thread.submit(hold)
        try:
            assert held.wait(60)
            assert health_client.simulate_get("/health").json["services"]["database"] == "ok"
            assert not holding.done()
        finally:
            end.set()


def test_many_requests_share_one_check(health_client, clock, monkeypatch):
    checks: list[float] = []
    # On a loaded machine Redis takes longer to answer than a crowd waits.
    for name in ("SLOT_WAIT_S", "CROWDED_SLOT_WAIT_S"):
        monkeypatch.setattr(admission, name, 60)
    monkeypatch.setattr(postgres, "check_writable", lambda: checks.append(clock.now))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: health_client.simulate_get("/health").status_code, range(80)))
    assert set(answers) == {200}
    assert len(checks) == 1
    clock.now += CACHED_FOR_S
    health_client.simulate_get("/health")
    assert len(checks) == 2


def test_a_database_that_refuses_to_write_is_down(health_client, monkeypatch):
    def read_only() -> None:
        postgres.rows("DO $$ BEGIN RAISE 'read-only' USING ERRCODE = '25006'; END $$")

    monkeypatch.setattr(postgres, "check_writable", read_only)
    result = health_client.simulate_get("/health")
    assert (result.status_code, result.json["status"]) == (503, "down")
    assert int(result.headers["Retry-After"]) >= 1
