"""The demo without a stack: what it says when it cannot go on, and how it signs in again and again."""

import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from workers.dev import client, demo, ready, stack

EMAIL = stack.DEMO_USERS[1]


@pytest.fixture
def sessions(tmp_path):
    return tmp_path / "demo-sessions.json"


def door(answers: dict[str, tuple[int, Any]]) -> tuple[client.Door, list[tuple[str, Any]]]:
    """A door that answers by path, and the requests that it was sent."""
    sent: list[tuple[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        sent.append((request.url.path, body))
        status, reply = answers[request.url.path]
        return httpx.Response(status, json=reply)

    http = httpx.Client(base_url="http://door", transport=httpx.MockTransport(answer))
    return client.Door(http), sent


def signed_in(refresh_token: str) -> tuple[int, Any]:
    data = {"user": {"id": "1", "name": "Vera Vendor"}, "accessToken": "a", "refreshToken": refresh_token}
    return 200, {"success": True, "data": data, "message": ""}


def refused(status: int, code: str, message: str = "No.") -> tuple[int, Any]:
    return status, {"success": False, "error": {"code": code, "message": message, "details": {}}}


@pytest.mark.parametrize(
    "left",
    [None, "BASE_URL=http://127.0.0.1:1\nDATABASE_URL=x\nREDIS_URL=x\n", "BASE_URL=http://127.0.0.1:1\n"],
)
@pytest.mark.parametrize("program", ["demo", "token"])
def test_without_a_running_stack_it_says_so_in_one_line(tmp_path, root, left, program):
    if left:
        (tmp_path / "stack.env").write_text(left)
    environ = os.environ | {"DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", f"workers.dev.{program}"]
    ended = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", client.NOTHING + "\n")


@pytest.mark.parametrize("reply", [{}, [], {"status": "ok", "services": None}])
def test_another_program_on_the_port_is_no_stack(reply):
    with pytest.raises(client.Trouble, match="nothing is running here"):
        door({"/health": (200, reply)})[0].health()


def test_a_stack_without_its_database_is_named_and_one_without_redis_goes_on():
    down = {"status": "down", "services": {"database": "down", "redis": "ok"}}
    with pytest.raises(client.Trouble, match="not well: database down"):
        door({"/health": (503, down)})[0].health()
    degraded = {"status": "degraded", "services": {"database": "ok", "redis": "down"}}
    assert door({"/health": (200, degraded)})[0].health() == "degraded (redis down)"


@pytest.mark.parametrize("before", ["", "[]", "not JSON"])
def test_the_first_sign_in_is_by_password_and_kept_for_our_eyes_only(sessions, before):
    sessions.write_text(before)
    at, sent = door({"/api/auth/login": signed_in("first")})
    at.sign_in(EMAIL, sessions)
    assert sent == [("/api/auth/login", {"email": EMAIL, "password": ready.DEMO_PASSWORD})]
    assert json.loads(sessions.read_text()) == {EMAIL: "first"}
    assert sessions.stat().st_mode & 0o777 == 0o600


def test_the_next_sign_in_is_by_refresh_and_keeps_the_successor(sessions):
    sessions.write_text(json.dumps({EMAIL: "first", "another@example.com": "theirs"}))
    at, sent = door({"/api/auth/refresh": signed_in("second")})
    at.sign_in(EMAIL, sessions)
    assert sent == [("/api/auth/refresh", {"refreshToken": "first"})]
    assert json.loads(sessions.read_text()) == {EMAIL: "second", "another@example.com": "theirs"}


def test_a_spent_sign_in_falls_back_to_the_password(sessions):
    sessions.write_text(json.dumps({EMAIL: "spent"}))
    at, sent = door({"/api/auth/refresh": refused(401, "TOKEN_REUSED"), "/api/auth/login": signed_in("new")})
    at.sign_in(EMAIL, sessions)
    assert [path for path, _ in sent] == ["/api/auth/refresh", "/api/auth/login"]
    assert json.loads(sessions.read_text()) == {EMAIL: "new"}


def test_only_a_401_falls_back_and_every_other_refusal_is_one_readable_line(sessions):
    sessions.write_text(json.dumps({EMAIL: "good"}))
    at, sent = door({"/api/auth/refresh": refused(429, "RATE_LIMITED", "Too many requests.")})
    with pytest.raises(client.Trouble) as trouble:
        at.sign_in(EMAIL, sessions)
    assert str(trouble.value) == "POST /api/auth/refresh: 429 RATE_LIMITED: Too many requests."
    assert len(sent) == 1
    assert json.loads(sessions.read_text()) == {EMAIL: "good"}


def test_ctrl_c_is_no_failure_of_ours(monkeypatch):
    def interrupted(console):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert demo.main() == 130


def test_a_payment_that_is_in_another_database_is_told_in_one_line():
    """Two stacks of two checkouts, started at the same moment, may have chosen the same port."""
    book: demo.Book = {table: [] for table in demo.TABLES}
    assert not demo._complete(book)
    with pytest.raises(client.Trouble, match="the lost is not in this database: another Paywright answers"):
        demo._found({"lost": book})
