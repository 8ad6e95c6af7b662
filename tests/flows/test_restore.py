"""A backup, a restore to an earlier moment, and what everybody then knows."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tests.flows.conftest import Stack
from tests.flows.test_events import Theirs, log_of, quiet, up_to_date
from tests.makers import until
from workers.dev import servers


@pytest.fixture
def restored(stack: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A second stack, on what a dump of the first one's database holds when it is started."""
    url, _, _ = stack.postgres.url.rpartition("/")
    redis_url, _, _ = stack.valkey.url.rpartition("/")
    directory = tmp_path / "restored"
    directory.mkdir()
    second = Stack(directory, SimpleNamespace(url=f"{url}/restored"), SimpleNamespace(url=f"{redis_url}/1"))  # type: ignore[arg-type]
    try:
        yield second
    finally:
        second.stop()
        command(stack, "dropdb", "--force", f"--maintenance-db={url}/postgres", "restored")


def command(stack: Stack, program: str, *arguments: str) -> None:
    """Runs one of PostgreSQL's own programs."""
    path = servers.postgres_bin() / program
    ran = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_restore_is_whole_and_a_subscriber_notices_it(
    stack: Stack, restored: Stack, tmp_path: Path, root: Path
):
    customer, dump = stack.customer(), str(tmp_path / "paywright.dump")
    kept = customer.pay()
    customer.settled([kept])
    quiet(stack)
    command(stack, "pg_dump", "--format=custom", f"--file={dump}", stack.postgres.url)

    page = (root / "docs/events.md").read_text()
    subscriber = Theirs(stack, tmp_path, page)
    lost = [customer.pay() for _ in range(3)]
    customer.settled(lost)
    quiet(stack)
    subscriber.start()
    until(lambda: up_to_date(stack, subscriber))
    subscriber.kill()

    maintenance = f"--maintenance-db={stack.postgres.url}"
    command(stack, "createdb", maintenance, "restored")
    command(stack, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={restored.postgres.url}", dump)
    restored.start()
    again = restored.customer()
    again.settled([again.pay() for _ in range(2)])
    quiet(restored)
    had = dict(subscriber.received())
    assert any(had.get(seq, id) != id for seq, id in log_of(restored)), "no number was given anew"

    subscriber = Theirs(restored, tmp_path, page)
    subscriber.start()
    try:
        until(lambda: up_to_date(restored, subscriber))
    finally:
        subscriber.kill()
    headers = {"Authorization": f"Bearer {admin(restored)}"}
    verified = restored.http.get("/api/admin/audit-logs/verify", headers=headers).json()["data"]
    assert verified["ok"], verified


def admin(stack: Stack) -> str:
    body = {"email": "admin@example.com", "password": "Paywright-demo-1"}
    answer: httpx.Response = stack.http.post("/api/auth/login", json=body).raise_for_status()
    return str(answer.json()["data"]["accessToken"])
