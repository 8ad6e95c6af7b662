"""Every JSON response is a success or an error in the envelope."""

import json

import pytest
from falcon.testing import TestClient

from api.app import create_app
from db import postgres
from db.users import Role
from tests.api.routing import addresses, is_page
from tests.makers import Visitor, error, visitor

REVIEW = "/payments/11111111-1111-4111-8111-111111111111/review"


@pytest.fixture
def me(client) -> Visitor:
    return visitor(client, Role.CUSTOMER)


def test_an_unknown_path_is_a_404(client):
    assert error(client.simulate_get("/api/nothing")) == (404, "NOT_FOUND")
    assert error(client.simulate_get("/nothing")) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["/%6detrics", "/api%2fauth/me", "/api/auth%2Fme", "/%61pi/auth/me", "/health/%2e%2e/metrics"]
)
def test_a_percent_encoded_path_is_a_404(client, path):
    assert error(client.simulate_get(path)) == (404, "NOT_FOUND")
    assert client.simulate_get("/health?a=%2f").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        (
            "PUT",
            "/admin/config",
            {"queues.paused": ["mail"] * 101},
            "List should have at most 100 items, not 101",
        ),
        ("POST", REVIEW, {"reason": "x", "reviewIds": []}, "List should have at least 1 item, not 0"),
        ("POST", REVIEW, {"reason": "<b></b>"}, "Value should have at least 1 character, not 0"),
        ("PUT", "/profile", {"bio": "x" * 2001}, "Value should have at most 2000 characters, not 2001"),
    ],
)
def test_a_text_has_characters_and_a_list_has_items(client, method, path, body, message):
    result = visitor(client, Role.ADMIN).send(method, path, body)
    assert [field["message"] for field in result.json["error"]["details"]["fields"]] == [message]


def test_an_id_that_is_not_a_uuid_is_a_404(me):
    assert error(me.get("/payments/42")) == (404, "NOT_FOUND")


def test_an_unsupported_method_is_a_405_that_lists_the_supported_ones(me):
    result = me.send("DELETE", "/auth/me")
    assert error(result) == (405, "METHOD_NOT_ALLOWED")
    assert "GET" in result.headers["Allow"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"type": "payment"',
        b"[]",
        b"null",
        b'"text"',
        b"12",
        b"\xff\xfe",
        b'{"type": "payment", "amount": NaN}',
        b'{"type": "payment", "amount": Infinity}',
        b'{"description": "\\u0000"}',
        b'{"metadata": {"a": ["\\\\\\u0000"]}}',
        b'{"description": "\\ud800"}',
        b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"amount": ' + b"9" * 5000 + b"}",
        b'{"description": "\x00"}',
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
def test_a_body_that_is_not_a_json_object_is_a_400(me, body):
    result = me.post("/payments", body=body, headers={"Content-Type": "application/json"})
    assert error(result) == (400, "MALFORMED_JSON")


def test_an_escaped_backslash_before_u0000_is_not_a_nul(me):
    raw = b'{"type": "payment", "amount": 1, "description": "\\\\u0000"}'
    result = me.post("/payments", body=raw, headers={"Content-Type": "application/json"})
    assert result.status_code == 201
    assert result.json["data"]["description"] == "\\u0000"


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/json; charset=utf-16", "multipart/form-data; boundary=x"],
)
def test_a_body_of_another_media_type_is_a_415(me, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    result = me.post("/payments", body=b'{"type": "payment", "amount": 1}', headers=headers)
    assert error(result) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_over_one_mebibyte_is_a_413(me):
    headers = {"Content-Type": "application/json", "Content-Length": str(1024 * 1024 + 1)}
    assert error(me.post("/payments", headers=headers, body=b"{}")) == (413, "PAYLOAD_TOO_LARGE")


def test_a_chunked_body_is_a_411_and_never_read_as_empty(me):
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    assert error(me.post("/auth/logout", headers=headers, body=b"{}")) == (411, "LENGTH_REQUIRED")


def test_all_errors_are_listed_at_once_and_no_input_is_echoed(me):
    secret = "s3cret"
    result = me.post(
        "/payments", {"type": secret, "amount": True, "currency": "XXX", "metadata": [], "x": secret}
    )
    assert error(result) == (400, "VALIDATION_ERROR")
    fields = {field["field"] for field in result.json["error"]["details"]["fields"]}
    assert fields == {"type", "amount", "currency", "metadata", "x"}
    assert secret not in result.text


def test_all_errors_of_a_query_are_listed_at_once(me):
    result = me.get("/payments?limit=0&cursor=!&status=lost&colour=red&from=yesterday")
    assert error(result) == (400, "VALIDATION_ERROR")
    fields = {field["field"] for field in result.json["error"]["details"]["fields"]}
    assert fields == {"limit", "cursor", "status", "colour", "from"}


def test_a_crash_is_a_500_without_details(me, monkeypatch):
    monkeypatch.setattr("db.live_sessions.read", lambda _session: 1 / 0)
    result = me.get("/auth/me")
    assert error(result) == (500, "INTERNAL_ERROR")
    assert "division" not in result.text


def test_an_unreachable_database_is_a_503_with_retry_after(settings, postgres_server, stores):
    client = TestClient(create_app(settings))
    postgres.database.dispose()
    postgres.configure("postgresql://paywright@127.0.0.1:1/none", connections=1)
    try:
        result = client.simulate_post(
            "/api/auth/login", json={"email": "a@b.example", "password": "12345678"}
        )
        health = client.simulate_get("/health")
    finally:
        postgres.configure(postgres_server.url, connections=20)
    assert error(result) == (503, "SERVICE_UNAVAILABLE")
    assert int(result.headers["Retry-After"]) >= 1
    assert (health.status_code, health.json["status"], health.json["services"]["database"]) == (
        503,
        "down",
        "down",
    )


def test_head_is_supported_wherever_get_is(me):
    for path in ("/auth/me", "/payments"):
        got, head = me.get(path), me.send("HEAD", path)
        assert (head.status_code, head.text) == (200, "")
        assert head.headers["Content-Length"] == str(len(got.content))
    assert me.client.simulate_head("/health").status_code == 200


def test_a_valid_request_id_of_the_client_is_kept(client):
    assert (
        client.simulate_get("/health", headers={"X-Request-ID": "abc-123"}).headers["X-Request-ID"]
        == "abc-123"
    )
    for invalid in ("", "a b", "x" * 129, "<script>", 'a"b'):
        made = client.simulate_get("/api/nothing", headers={"X-Request-ID": invalid}).headers["X-Request-ID"]
        assert len(made) == 36


def test_a_success_has_data_and_a_message(me):
    body = json.loads(me.get("/auth/me").content)
    assert body.keys() == {"success", "data", "message"}
    assert body["success"] is True


def test_an_unchanged_resource_is_not_sent_again(me):
    first = me.get("/auth/me")
    again = me.get("/auth/me", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert me.get("/auth/me", headers={"If-None-Match": '"other"'}).status_code == 200


def test_every_get_of_one_thing_has_an_etag():
    of_one_thing = [
        address
        for address in addresses()
        if "GET" in address.methods and address.template.endswith("}") and not is_page(address.template)
    ]
    assert len(of_one_thing) >= 5
    assert [address.template for address in of_one_thing if not address.methods["GET"].etag] == []


@pytest.mark.filterwarnings("ignore::wsgiref.validate.WSGIWarning")
@pytest.mark.parametrize("method", ["FOO", "LINK", "WEBSOCKET", "get"])
def test_an_unknown_method_is_a_405(me, method):
    result = me.send(method, "/payments")
    assert error(result) == (405, "METHOD_NOT_ALLOWED")
    assert len(result.headers["X-Request-ID"]) == 36
    assert {"GET", "POST", "OPTIONS"} <= set(result.headers["Allow"].split(", "))
    if method != "WEBSOCKET":
        assert "DELETE" not in result.headers["Allow"]
        assert error(me.send(method, "/nothing")) == (404, "NOT_FOUND")


def test_a_body_that_was_cut_off_has_no_effect(me):
    headers = {"Content-Type": "application/json", "Content-Length": "500"}
    result = me.post("/payments", body=b'{"type": "payment", "amount": "77.77"}', headers=headers)
    assert error(result) == (400, "MALFORMED_JSON")
    assert me.get("/payments").json["data"]["items"] == []


def test_a_duplicate_field_is_refused(me):
    raw = b'{"type": "payment", "amount": 5, "amount": 1}'
    result = me.post("/payments", body=raw, headers={"Content-Type": "application/json"})
    assert error(result) == (400, "MALFORMED_JSON")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset = latin1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_a_body_in_another_encoding_is_a_415(me, headers):
    result = me.post("/payments", body=b'{"type": "payment", "amount": 1}', headers=headers)
    assert error(result) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_the_number_of_listed_errors_is_limited(me):
    result = me.post("/payments", {"x" * 1000 + str(n): 1 for n in range(300)})
    assert error(result) == (400, "VALIDATION_ERROR")
    assert len(result.content) < 20_000


@pytest.mark.parametrize("query", ["limit=1_0", "limit=1.0", "limit=%205", "limit=%2B5", "limit=101"])
def test_a_limit_must_be_a_whole_number(me, query):
    assert error(me.get(f"/payments?{query}")) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "timestamp",
    [
        "123",
        "-1",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "0001-01-01T00:00:00%2B23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-13-01T00:00:00Z",
        "now",
    ],
)
def test_a_timestamp_needs_date_time_and_offset(me, timestamp):
    assert error(me.get(f"/payments?from={timestamp}")) == (400, "VALIDATION_ERROR")


def test_a_timestamp_may_have_any_offset(me):
    assert me.get("/payments?from=2026-01-01T00:00:00%2B23:59&to=2026-01-31T09:30:00.125Z").status_code == 200


@pytest.mark.parametrize("shape", ["{{{}}}", "urn:uuid:{}", "{}x", "{}-"])
def test_an_id_has_one_spelling(me, shape):
    id = me.post("/payments", {"type": "payment", "amount": 1}).json["data"]["id"]
    for odd in (shape.format(id), id.replace("-", "")):
        assert error(me.get(f"/payments/{odd}")) == (404, "NOT_FOUND")
        assert error(me.get(f"/payments?requestId={odd}")) == (400, "VALIDATION_ERROR")
    assert me.get(f"/payments/{id.upper()}").status_code == 200
