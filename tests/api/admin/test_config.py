"""The configuration that can be changed without a restart."""

import pytest

from api.admin.configuration import ConfigUpdate
from db import audit_log, config, event_log, postgres
from db.config import ConfigKey
from db.users import Role
from tests import makers
from tests.makers import PASSWORD, Visitor, error, registered, work


@pytest.fixture
def admin(client) -> Visitor:
    """An administrator whose registration has left audit entries, events and a mail."""
    return registered(client, Role.ADMIN)


def put(user: Visitor, **values):
    return user.send("PUT", "/admin/config", {key.replace("_", "."): value for key, value in values.items()})


def values(user: Visitor) -> dict[str, object]:
    return {item["key"]: item["value"] for item in user.get("/admin/config").json["data"]["items"]}


def test_every_key_can_be_changed():
    assert {field.alias for field in ConfigUpdate.model_fields.values()} == set(ConfigKey)


def test_the_defaults_are_in_force_at_first(admin):
    assert values(admin) == {
        "psp.approvalRate": 1,
        "psp.latencyMs": 0,
        "payments.maxAmount": "99999999.99",
        "payments.requestTtlHours": 168,
        "payments.dailyLimit": None,
        "payments.unverifiedAmount": None,
        "maintenance.readOnly": False,
        "queues.paused": [],
    }
    items = admin.get("/admin/config").json["data"]["items"]
    assert {(item["updatedAt"], item["updatedBy"]) for item in items} == {(None, None)}
    assert all(item["description"] for item in items)


def test_a_change_takes_effect_is_emitted_and_audited(admin):
    result = put(admin, psp_approvalRate=0.5, payments_maxAmount="100")
    assert result.status_code == 200
    assert values(admin) | {} == {**values(admin), "psp.approvalRate": 0.5, "payments.maxAmount": "100.00"}
    [changed] = [item for item in result.json["data"]["items"] if item["key"] == "psp.approvalRate"]
    assert changed["updatedBy"] == admin.user["id"]
    work()
    [event] = [event for event in event_log.after(0, 100) if event.type == "admin:config:updated"]
    assert event.data["changes"] == {
        "psp.approvalRate": {"from": 1, "to": 0.5},
        "payments.maxAmount": {"from": "99999999.99", "to": "100.00"},
    }
    [row] = audit_log.AuditLog.select().where(audit_log.AuditLog.action == "admin.config.updated")
    assert str(row.user_id) == admin.user["id"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"psp_approvalRate": 1.1}, "psp.approvalRate"), ({"psp_approvalRate": "1"}, "psp.approvalRate"),
        ({"psp_approvalRate": -0.1}, "psp.approvalRate"), ({"psp_approvalRate": True}, "psp.approvalRate"),
        ({"psp_latencyMs": 1.5}, "psp.latencyMs"), ({"psp_latencyMs": 5001}, "psp.latencyMs"),
        ({"payments_maxAmount": "0"}, "payments.maxAmount"), ({"payments_maxAmount": "1.234"}, "payments.maxAmount"), ({"payments_maxAmount": "100000000"}, "payments.maxAmount"),
        ({"payments_requestTtlHours": 0}, "payments.requestTtlHours"), ({"maintenance_readOnly": "yes"}, "maintenance.readOnly"),
        ({"payments_dailyLimit": 0}, "payments.dailyLimit"), ({"payments_dailyLimit": 1.5}, "payments.dailyLimit"),
        ({"payments_unverifiedAmount": "1.234"}, "payments.unverifiedAmount"), ({"payments_unverifiedAmount": 0}, "payments.unverifiedAmount"),
        ({"maintenance_readOnly": None}, "maintenance.readOnly"), ({"psp_unknown": 1}, "psp.unknown"), ({}, "body"),
    ],
)  # fmt: skip
def test_an_invalid_value_changes_nothing(admin, changes, field):
    before = values(admin)
    result = put(admin, **{"psp_latencyMs": 5, **changes} if changes else {})
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == [field]
    assert values(admin) == before


def test_the_maximum_amount_applies_to_payments_and_requests(client, admin):
    put(admin, payments_maxAmount=50)
    customer, vendor = registered(client), registered(client, Role.VENDOR)
    result = customer.post("/payments", {"type": "payment", "amount": "50.01"})
    assert error(result) == (400, "VALIDATION_ERROR")
    assert result.json["error"]["details"]["fields"] == [
        {"field": "amount", "message": "must not be more than 50.00"}
    ]
    assert customer.post("/payments", {"type": "payment", "amount": 50}).status_code == 201
    request = vendor.post("/payments", {"type": "initiate", "amount": 50}).json["data"]["id"]
    assert error(vendor.send("PUT", f"/payments/{request}", {"amount": 51})) == (400, "VALIDATION_ERROR")
    assert vendor.send("PUT", f"/payments/{request}", {"description": "x"}).status_code == 200


def test_maintenance_allows_only_reading_and_sessions(client, admin):
    customer, vendor = registered(client), registered(client, Role.VENDOR)
    work()
    token = makers.mailbox.token()
    put(admin, maintenance_readOnly=True)
    for user, method, path, body in (
        (customer, "POST", "/payments", {"type": "payment", "amount": 1}),
        (vendor, "DELETE", f"/payments/{customer.user['id']}", None),
        (customer, "PUT", "/auth/password", {"currentPassword": PASSWORD, "newPassword": "another fine one"}),
        (admin, "DELETE", f"/admin/users/{customer.user['id']}", None),
        (
            Visitor(client),
            "POST",
            "/auth/register",
            {"email": makers.address(), "password": PASSWORD, "name": "N"},
        ),
        (Visitor(client), "POST", "/auth/forgot-password", {"email": customer.user["email"]}),
        (Visitor(client), "GET", f"/auth/verify-email?token={token}", None),
    ):
        result = user.send(method, path, body)
        assert error(result) == (503, "SERVICE_UNAVAILABLE"), path
        assert result.json["error"]["details"] == {"reason": "read_only"}
        assert int(result.headers["Retry-After"]) > 0
    assert error(Visitor(client).post("/payments", {"type": "payment", "amount": 1})) == (401, "UNAUTHORIZED")
    assert customer.get("/payments").status_code == 200
    signed_in = client.simulate_post(
        "/api/auth/login", json={"email": customer.user["email"], "password": PASSWORD}
    )
    assert signed_in.status_code == 200
    refreshed = client.simulate_post("/api/auth/refresh", json={"refreshToken": customer.refresh_token})
    assert refreshed.status_code == 200
    assert customer.post("/auth/logout").status_code == 200
    put(admin, maintenance_readOnly=False)
    assert vendor.post("/payments", {"type": "initiate", "amount": 1}).status_code == 201


def test_another_process_sees_a_change_within_a_second(admin, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("db.config.time.monotonic", lambda: now[0])
    config.clear_cache()
    assert config.value(ConfigKey.PSP_LATENCY_MS) == 0
    postgres.rows("INSERT INTO admin.system_config (key, value) VALUES (%s, '7')", ConfigKey.PSP_LATENCY_MS)
    assert config.value(ConfigKey.PSP_LATENCY_MS) == 0
    now[0] += 1
    assert config.value(ConfigKey.PSP_LATENCY_MS) == 7


def test_queues_are_paused_by_name(admin):
    result = admin.send("PUT", "/admin/config", {"queues.paused": ["psp", "mail", "psp"]})
    values = {item["key"]: item["value"] for item in result.json["data"]["items"]}
    assert values["queues.paused"] == ["mail", "psp"]
    assert config.paused_queues() == {"mail", "psp"}
    admin.send("PUT", "/admin/config", {"queues.paused": []})
    assert config.paused_queues() == set()


def test_of_two_administrators_who_pause_queues_at_once_the_later_one_reads_the_list_again(admin):
    read = admin.get("/admin/config").headers["ETag"]

    def pause(*queues: str, etag: str) -> int:
        body = {"queues.paused": list(queues)}
        return admin.send("PUT", "/admin/config", body, headers={"If-Match": etag}).status_code

    assert pause("mail", etag=read) == 200
    assert pause("psp", etag=read) == 412
    assert config.paused_queues() == {"mail"}
    assert pause("mail", "psp", etag=admin.get("/admin/config").headers["ETag"]) == 200
    assert pause(etag="*") == 200


def test_after_a_change_the_next_one_needs_no_reading(admin):
    changed = admin.send("PUT", "/admin/config", {"queues.paused": ["mail"]})
    read = admin.get("/admin/config")
    assert changed.headers["ETag"] == read.headers["ETag"]
    assert changed.json["data"] == read.json["data"]
    headers = {"If-Match": changed.headers["ETag"]}
    again = admin.send("PUT", "/admin/config", {"queues.paused": []}, headers=headers)
    assert (again.status_code, again.headers["ETag"] != changed.headers["ETag"]) == (200, True)


@pytest.mark.parametrize("value", [["nope"], "mail", None, [7], ["mail", "Mail"]])
def test_only_queues_that_there_are_can_be_paused(admin, value):
    assert error(admin.send("PUT", "/admin/config", {"queues.paused": value})) == (400, "VALIDATION_ERROR")
