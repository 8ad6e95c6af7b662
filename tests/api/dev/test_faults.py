"""The routes that break a stack of `make run`: they reach the launcher, and exist nowhere else."""

import json
import os
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from falcon.testing import TestClient
from pydantic.alias_generators import to_camel

from api.app import create_app
from api.settings import WebSettings
from db import audit_log, redis
from db.users import Role
from tests import makers
from tests.makers import Visitor, visitor, work

FAULT = {
    "at": "2026-03-01T12:00:00.125Z", "fault": "freeze", "process": "relay.1", "pid": 3, "seconds": 10,
    "recovered_at": None, "new_pid": None,
}  # fmt: skip


@pytest.fixture
def launcher(tmp_path) -> Iterator[Callable[[], list[dict[str, object]]]]:
    """The directory of a launcher; returns what it was asked to do."""
    pids = {"web.1": 1, "psp.1": 2, "relay.1": 3, "postgres": 4, "valkey": 5}
    (tmp_path / "pids.json").write_text(json.dumps(pids))
    (tmp_path / "faults.json").write_text(json.dumps([FAULT]))
    os.mkfifo(tmp_path / "faults")
    pipe = os.open(tmp_path / "faults", os.O_RDWR | os.O_NONBLOCK)

    def asked() -> list[dict[str, object]]:
        try:
            return [json.loads(line) for line in os.read(pipe, 10_000).splitlines()]
        except BlockingIOError:
            return []

    yield asked
    os.close(pipe)


@pytest.fixture
def client(database, settings, tmp_path) -> TestClient:
    return TestClient(create_app(settings.model_copy(update={"paywright_stack": str(tmp_path)})))


@pytest.fixture
def admin(client) -> Visitor:
    return visitor(client, Role.ADMIN)


def test_an_administrator_sees_what_can_be_broken_and_what_was(admin, launcher):
    data = admin.get("/dev/stack").json["data"]
    assert [each["name"] for each in data["processes"]] == ["postgres", "psp.1", "relay.1", "valkey"]
    assert [each["name"] for each in data["processes"] if each["freezable"]] == ["psp.1", "relay.1"]
    assert data["faults"] == [{to_camel(name): value for name, value in FAULT.items()}]


def test_the_launcher_is_asked_to_kill_and_to_freeze(admin, launcher):
    for fault in (
        {"fault": "kill", "process": "psp.1"},
        {"fault": "freeze", "process": "psp.1", "seconds": 5},
    ):
        assert admin.post("/dev/faults", fault).status_code == 202
    assert launcher() == [
        {"fault": "kill", "process": "psp.1", "seconds": None},
        {"fault": "freeze", "process": "psp.1", "seconds": 5},
    ]
    work()
    entries = audit_log.AuditLog.select().where(audit_log.AuditLog.action == "admin.fault.injected")
    assert [each.details["fault"] for each in entries.order_by(audit_log.AuditLog.seq)] == [
        "kill",
        "freeze",
    ]


def test_redis_is_flushed(admin, launcher, stores):
    client = redis.connect(stores["REDIS_URL"])
    client.set("kept", 1)
    assert admin.post("/dev/faults", {"fault": "flushRedis"}).status_code == 202
    assert not client.exists("kept")
    assert [each["fault"] for each in launcher()] == ["flushRedis"]


def test_the_job_that_a_payment_waits_for_dies_until_somebody_retries_it(admin, launcher):
    payment = makers.payment()
    fault = {"fault": "killJob", "paymentId": str(payment.id)}
    assert admin.post("/dev/faults", fault).status_code == 202
    work()
    assert makers.reload(payment).status == "pending"
    [dead] = admin.get(f"/admin/jobs?state=dead&paymentId={payment.id}").json["data"]["items"]
    [entry] = audit_log.AuditLog.select().where(audit_log.AuditLog.action == "admin.fault.injected")
    assert (dead["name"], str(entry.resource_id)) == ("payments.begin", dead["id"])
    # A dead job does not die again.
    assert admin.post("/dev/faults", fault).status_code == 404
    admin.post(f"/admin/jobs/{dead['id']}/retry")
    work()
    assert makers.reload(payment).status == "completed"
    assert [each["fault"] for each in launcher()] == ["killJob"]


def test_a_cancellation_dies_however_long_its_reason(admin, launcher):
    payment = makers.open_request()
    admin.post(f"/payments/{payment.id}/status", {"status": "cancelled", "reason": "late " * 100})
    assert admin.post("/dev/faults", {"fault": "killJob", "paymentId": str(payment.id)}).status_code == 202
    [dead] = admin.get(f"/admin/jobs?state=dead&paymentId={payment.id}").json["data"]["items"]
    assert dead["name"] == "payments.cancel"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"fault": "kill", "process": "web.1"}, 404),
        ({"fault": "kill", "process": "nobody"}, 404),
        ({"fault": "freeze", "process": "postgres", "seconds": 5}, 404),
        ({"fault": "freeze", "process": "psp.1"}, 400),
        ({"fault": "freeze", "process": "psp.1", "seconds": 600}, 400),
        ({"fault": "kill"}, 400),
        ({"fault": "flushRedis", "process": "psp.1"}, 400),
        ({"fault": "shutdown"}, 400),
        ({"fault": "killJob"}, 400),
        ({"fault": "killJob", "process": "psp.1", "paymentId": str(UUID(int=0))}, 400),
        ({"fault": "killJob", "paymentId": str(UUID(int=0))}, 404),
    ],
)
def test_nothing_else_is_broken(admin, launcher, fault, status):
    assert admin.post("/dev/faults", fault).status_code == status
    assert launcher() == []


def test_a_launcher_that_is_gone_is_a_503(admin):
    result = admin.get("/dev/stack")
    assert result.json["data"] == {"processes": [], "faults": []}


def test_a_launcher_that_does_not_listen_is_a_503(admin, tmp_path):
    (tmp_path / "pids.json").write_text('{"psp.1": 2}')
    result = admin.post("/dev/faults", {"fault": "kill", "process": "psp.1"})
    assert (result.status_code, result.json["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")


def test_only_an_administrator_breaks_anything(client, launcher):
    for role in (Role.CUSTOMER, Role.VENDOR):
        who = visitor(client, role)
        assert who.post("/dev/faults", {"fault": "kill", "process": "psp.1"}).status_code == 403
        assert who.get("/dev/stack").status_code == who.get("/dev/runs").status_code == 403
    assert launcher() == []


def test_a_run_shows_what_the_psp_has_charged(admin):
    paid = makers.payment(run="a", simulate="timeout")
    makers.payment(run="a", simulate="decline")
    makers.payment(run="b")
    makers.payment()
    work()
    makers.payment(run="b")
    newest, oldest = admin.get("/dev/runs").json["data"]["items"]
    assert (newest["id"], [each["status"] for each in newest["payments"]]) == ("b", ["completed", "pending"])
    first, second = oldest["payments"]
    assert (first["id"], first["simulate"], first["charges"]) == (str(paid.id), "timeout", 1)
    assert (second["status"], second["charges"]) == ("failed", 0)
    [only] = admin.get("/dev/runs?run=a").json["data"]["items"]
    assert only == oldest


def test_the_document_of_such_a_stack_is_openapi(client):
    document = client.simulate_get("/api/openapi.json").json
    assert "/api/dev/faults" in document["paths"]
    # Imported here: none of the other processes needs it.
    from openapi_spec_validator import validate  # noqa: PLC0415

    validate(document)


@pytest.mark.parametrize("changed", [{"app_env": "production"}, {"paywright_stack": ""}])
def test_elsewhere_the_routes_do_not_exist(database, settings: WebSettings, tmp_path, launcher, changed):
    settings = settings.model_copy(update={"paywright_stack": str(tmp_path), **changed})
    client = TestClient(create_app(settings))
    admin = visitor(client, Role.ADMIN)
    for path in ("/dev/stack", "/dev/runs"):
        assert admin.get(path).status_code == 404
    assert admin.post("/dev/faults", {"fault": "kill", "process": "psp.1"}).status_code == 404
    assert client.simulate_get("/console/break-it").status_code == 404
    assert "/api/dev/faults" not in client.simulate_get("/api/openapi.json").json["paths"]
