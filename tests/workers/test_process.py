"""A worker process: its settings, its priority, and the watchdog that ends a process whose loop hangs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.process import WorkerSettings
from workers.watchdog import Watchdog

# Prints its niceness, then that of its session, as soon as it is not the usual one.
PRIORITY = """
import os, time
from pathlib import Path
from workers import process

process.start("worker")
print(os.nice(0))
autogroup = Path("/proc/self/autogroup")
while autogroup.exists() and autogroup.read_text().endswith(" 0\\n"):
    time.sleep(0.01)
print(autogroup.read_text() if autogroup.exists() else "")
"""


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


def test_a_signal_that_meets_the_beginning_of_a_wait_ends_it():
    """The thread that waits has the lock of the event for a moment, and the handler runs in that thread."""
    script = (
        "import os, signal; from workers import process; stopped = process.until_stopped();"
        "stopped._cond.acquire(); os.kill(os.getpid(), signal.SIGTERM); stopped._cond.release();"
        "print(stopped.wait(30))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=True, env={}
    ).stdout
    assert printed == b"True\n"


def test_a_worker_computes_after_the_web_processes():
    environment = {"APP_ENV": "test", "DATABASE_URL": "postgresql://h/x", "REDIS_URL": "redis://h"}
    command = [sys.executable, "-c", PRIORITY]
    done = subprocess.run(
        command, env=environment, start_new_session=True, capture_output=True, timeout=120, check=True
    )
    assert int(done.stdout.split()[0]) == min(19, os.nice(0) + 10)
    if Path("/proc/self/autogroup").exists():
        assert done.stdout.split()[-1] == b"10"


@pytest.mark.parametrize("module", ["relay", "scheduler", "subscribers", "psp"])
def test_a_process_that_takes_no_arguments_refuses_them(root, module):
    started = run_module(root, f"workers.{module}", "--help")
    assert (started.returncode, started.stdout) == (1, "")
    assert started.stderr == f"usage: python -m workers.{module}; its settings come from the environment\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["payments", "paymnts"]])
def test_a_worker_of_an_unknown_queue_is_not_started(root, arguments):
    started = run_module(root, "workers.main", *arguments)
    assert (started.returncode, started.stdout) == (1, "")
    assert started.stderr.startswith("usage: python -m workers.main QUEUE [QUEUE ...], of payments, psp, ")


def run_module(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    started = [sys.executable, "-m", *command]
    return subprocess.run(started, cwd=root, capture_output=True, text=True, timeout=60, check=False, env={})
