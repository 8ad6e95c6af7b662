"""What a visitor and an operator type at a running stack."""

import os
import subprocess
import sys

from tests.flows.conftest import Stack
from tests.makers import SECRETS, until
from workers.dev.demo import token


def run(stack: Stack, *command: str) -> subprocess.CompletedProcess[str]:
    stores = {"DATABASE_URL": stack.postgres.url, "REDIS_URL": stack.valkey.url}
    environment = {**os.environ, **SECRETS, **stores, "DATA_DIR": str(stack.directory), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def test_the_demo_runs_any_number_of_times(stack: Stack):
    for _ in range(2):
        shown = run(stack, "-m", "workers.dev.demo")
        assert shown.returncode == 0, shown.stderr
        assert "80.00 USD and 5.00 CHF were paid and charged once" in shown.stdout
        assert "insufficient_funds" in shown.stdout


def test_a_token_for_curl_is_printed_any_number_of_times(stack: Stack, monkeypatch, capsys):
    printed = run(stack, "-m", "workers.dev.demo.token")
    assert printed.returncode == 0, printed.stderr
    tokens = [("customer", printed.stdout.strip())]
    monkeypatch.setenv("DATA_DIR", str(stack.directory))
    for name in ("customer", "vendor", "admin"):
        assert token.main(name) == 0
        tokens.append((name, capsys.readouterr().out.strip()))
    for name, made in tokens:
        me = stack.http.get("/api/auth/me", headers={"Authorization": f"Bearer {made}"})
        assert me.json()["data"]["email"] == f"{name}@example.com"
    assert token.main("nobody") == 1
    assert capsys.readouterr().err == "AS=nobody: there is admin, vendor and customer\n"


def test_a_dead_job_is_retried_by_a_command(stack: Stack):
    customer = stack.customer()
    stack.pause("payments.1")
    try:
        id = customer.pay()
        stack.rows(
            "UPDATE journal.jobs SET dead_at = now() WHERE name = 'payments.begin' AND args ->> 'payment_id' = %s"
            " RETURNING id",
            id,
        )
    finally:
        stack.resume("payments.1")
    waiting = "SELECT 1 FROM journal.jobs WHERE dead_at IS NULL"
    until(lambda: not stack.rows(waiting))
    assert customer.status(id) == "pending"

    retried = run(stack, "-m", "api.cli", "jobs", "retry", "--all")
    assert retried.stdout == "jobs that will be retried: 1\n"
    assert customer.settled([id]) == ["completed"]
