"""The settings of a worker process, and the watchdog that ends a process whose loop hangs."""

import pytest

from workers.process import Watchdog, WorkerSettings


@pytest.mark.parametrize(
    ("app_env", "psp_simulate", "simulates"),
    [
        ("development", None, True),
        ("test", "", True),
        ("development", "false", False),
        ("production", None, False),
        ("production", "", False),
        ("production", "true", True),
    ],
)
def test_customers_choose_what_the_stub_does_except_in_production(app_env, psp_simulate, simulates):
    environment = {"APP_ENV": app_env, "DATABASE_URL": "postgresql://h/x", "REDIS_URL": "redis://h"}
    if psp_simulate is not None:
        environment["PSP_SIMULATE"] = psp_simulate
    assert WorkerSettings.read(environment).simulates_psp is simulates


def test_a_hanging_loop_ends_its_process():
    exit_statuses: list[int] = []
    watchdog = Watchdog("test", 3, exit_statuses.append)
    for _ in range(3):
        watchdog.tick()
    watchdog.beat()
    for _ in range(3):
        watchdog.tick()
    assert exit_statuses == []
    watchdog.tick()
    assert exit_statuses == [1]
