"""The demo without a stack: what it says when it cannot go on, and how it signs in again and again."""

import json
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from db.demo_users import DEMO_PASSWORD
from db.users import Role
from workers.dev import Failure
from workers.dev.demo import __main__ as demo
from workers.dev.demo import token
from workers.dev.demo.running_stack import NOT_RUNNING, RunningStack

ID = str(uuid4())


def stack(answers: dict[str, list[tuple[int, Any]]]) -> tuple[RunningStack, list[tuple[str, Any]]]:
    """A stack that answers by path, and the requests that it was sent."""
    sent: list[tuple[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.url.path, json.loads(request.content) if request.content else None))
        status, reply = answers[request.url.path].pop(0)
        return httpx.Response(status, json=reply)

    http = httpx.Client(base_url="http://stack", transport=httpx.MockTransport(answer))
    return RunningStack(http, "redis://127.0.0.1:1/0"), sent


def timeline(status: str, *outcomes: str, published: bool = True) -> dict[str, Any]:
    """A response with the timeline of a payment that has come to this status by one transition."""
    items: list[dict[str, Any]] = [
        {"kind": "transition", "data": {"to": status}},
        {"kind": "audit", "data": {}},
        *({"kind": "event", "data": {"published": published}} for _ in range(2)),
        *({"kind": "pspCall", "data": {"outcome": outcome}} for outcome in outcomes),
        {"kind": "job", "data": {"state": "waiting"}, "due": True},
    ]
    return {"success": True, "data": {"items": items}, "message": ""}


@pytest.mark.parametrize(
    "left",
    [None, "BASE_URL=http://127.0.0.1:1\nDATABASE_URL=x\nREDIS_URL=x\n", "BASE_URL=http://127.0.0.1:1\n"],
)
@pytest.mark.parametrize("program", [demo.main, partial(token.main, "customer")], ids=["demo", "token"])
def test_without_a_running_stack_it_says_so_in_one_line(tmp_path, monkeypatch, capsys, left, program):
    if left:
        (tmp_path / "stack.env").write_text(left)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert program() == 1
    assert capsys.readouterr() == ("", NOT_RUNNING + "\n")


@pytest.mark.parametrize("reply", [{}, [], {"status": "ok", "services": None}])
def test_another_program_on_the_port_is_no_stack(reply):
    with pytest.raises(Failure, match="nothing is running here"):
        stack({"/health": [(200, reply)]})[0].health()


def test_a_stack_without_its_database_is_named_and_one_without_redis_goes_on():
    down = {"status": "down", "services": {"database": "down", "redis": "ok"}}
    with pytest.raises(Failure, match="cannot work: database down"):
        stack({"/health": [(503, down)]})[0].health()
    degraded = {"status": "degraded", "services": {"database": "ok", "redis": "down"}}
    assert stack({"/health": [(200, degraded)]})[0].health() == "degraded (redis down)"


def test_a_sign_in_is_by_password():
    data = {"user": {"name": "Vera Vendor"}, "accessToken": "a", "refreshToken": "r"}
    at, sent = stack({"/api/auth/login": [(200, {"success": True, "data": data, "message": ""})]})
    assert at.sign_in(Role.VENDOR) == data
    assert sent == [("/api/auth/login", {"email": "vendor@example.com", "password": DEMO_PASSWORD})]


def test_a_refusal_is_one_readable_line():
    error = {"code": "RATE_LIMITED", "message": "Too many requests.", "details": {}}
    at, _ = stack({"/api/auth/login": [(429, {"success": False, "error": error})]})
    with pytest.raises(Failure) as trouble:
        at.sign_in(Role.VENDOR)
    assert str(trouble.value) == "POST /api/auth/login: 429 RATE_LIMITED: Too many requests."


def test_ctrl_c_is_no_failure_of_ours(monkeypatch):
    def interrupted(_stack):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunningStack, "health", interrupted)
    assert demo.main() == 130


def test_a_payment_whose_events_are_not_published_is_named(monkeypatch):
    monkeypatch.setattr(demo, "RECORD_TIMEOUT_S", 0)
    at, _ = stack({f"/api/payments/{ID}/timeline": [(200, timeline("completed", published=False))]})
    with pytest.raises(Failure) as trouble:
        demo.complete_timeline(at, "token", ID, "lost")
    assert str(trouble.value) == "the lost still lacks audit entries or published events"


@pytest.mark.parametrize(
    ("status", "outcomes"), [("failed", ["charged"]), ("completed", ["no_answer"]), ("failed", [])]
)
def test_a_payment_that_ends_in_another_way_is_named(status, outcomes):
    at, _ = stack({f"/api/payments/{ID}/timeline": [(200, timeline(status, *outcomes))]})
    with pytest.raises(Failure, match=f"the lost ended {status}, the PSP decided .*: expected"):
        demo.complete_timeline(at, "token", ID, "lost")


def test_a_complete_timeline_leaves_out_what_is_still_to_come():
    at, _ = stack({f"/api/payments/{ID}/timeline": [(200, timeline("completed", "no_answer", "charged"))]})
    kinds = [item["kind"] for item in demo.complete_timeline(at, "token", ID, "lost")]
    assert kinds == ["transition", "audit", "event", "event", "pspCall", "pspCall"]
