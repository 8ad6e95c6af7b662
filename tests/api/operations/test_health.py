"""/health asks what requests ask, and costs little however often it is asked."""

import threading
from concurrent.futures import ThreadPoolExecutor

import falcon
import pytest
from falcon.testing import TestClient

from api.operations.health import SEEN_FOR_S, Health
from db import health, postgres, redis


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asked(stores, clock) -> TestClient:
    """Nothing but /health, on a clock of its own."""
    app = falcon.App()
    app.add_route("/health", Health(redis.connect(stores["REDIS_URL"]), clock))
    return TestClient(app)


def test_it_writes_to_the_database(asked, stores):
    def written():
        with postgres.connection():
            return postgres.rows("SELECT written_at FROM journal.health_check")[0]["written_at"]

    before = written()
    assert asked.simulate_get("/health").json["services"]["database"] == "ok"
    assert written() > before


def test_it_waits_for_nobody_who_writes_too(asked, stores):
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.connection(), postgres.database.atomic():
            health.write()
            held.set()
            end.wait(60)

    with ThreadPoolExecutor(1) as thread:
        holding = thread.submit(hold)
        try:
            assert held.wait(60)
            assert asked.simulate_get("/health").json["services"]["database"] == "ok"
            assert not holding.done()
        finally:
            end.set()


def test_a_flood_of_questions_is_one_look(asked, clock, monkeypatch):
    looks: list[float] = []
    monkeypatch.setattr(health, "write", lambda: looks.append(clock.now))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: asked.simulate_get("/health").status_code, range(80)))
    assert set(answers) == {200}
    assert len(looks) == 1
    clock.now += SEEN_FOR_S
    asked.simulate_get("/health")
    assert len(looks) == 2


def test_a_database_that_refuses_to_write_is_down(asked, monkeypatch):
    def read_only() -> None:
        postgres.rows("DO $$ BEGIN RAISE 'read-only' USING ERRCODE = '25006'; END $$")

    monkeypatch.setattr(health, "write", read_only)
    result = asked.simulate_get("/health")
    assert (result.status_code, result.json["status"]) == (503, "down")
    assert int(result.headers["Retry-After"]) >= 1
