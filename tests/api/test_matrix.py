"""Every route, every method, every kind of caller: drawn from the routes, so that a new one is in it at once."""

import falcon
import pytest
from freezegun import freeze_time

from api.app import add_route
from api.http.operation import Operation, RawOperation
from api.security.permissions import ROLES_BY_PERMISSION, Permission
from db import sessions
from db.users import Role
from tests.api.routing import Address, addresses
from tests.makers import error, visitor

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ADDRESSES = list(addresses())


def needed(told: Operation | RawOperation) -> Permission:
    return told.permission if isinstance(told, Operation) else Permission.ANYONE


ROUTES = [
    (address, method, needed(told)) for address in ADDRESSES for method, told in address.methods.items()
]


def each(routes: list[tuple[Address, str, Permission]]) -> pytest.MarkDecorator:
    params = [
        pytest.param(address.path, method, may, id=f"{method} {address.template}")
        for address, method, may in routes
    ]
    return pytest.mark.parametrize(("path", "method", "may"), params)


OPEN = [route for route in ROUTES if route[2] is Permission.ANYONE]
GUARDED = [route for route in ROUTES if route[2] is not Permission.ANYONE]

every_route, every_open_route, every_guarded_route = each(ROUTES), each(OPEN), each(GUARDED)
every_address = pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: address.template)
every_read = pytest.mark.parametrize(
    "path", [pytest.param(it.path, id=it.template) for it in ADDRESSES if "GET" in it.methods]
)


def ask(client, method, path, token=""):
    headers = {"Authorization": token} if token else {}
    return client.simulate_request(method, path, headers=headers)


def expired(client) -> str:
    with freeze_time("2026-03-01T12:00:00Z"):
        return visitor(client).token


def revoked(client) -> str:
    who = visitor(client)
    sessions.end_all(who.user["id"])
    return who.token


def test_the_matrix_is_not_empty():
    assert {role for _address, _method, may in GUARDED for role in ROLES_BY_PERMISSION[may]} == set(Role)
    assert OPEN


@every_open_route
def test_an_open_route_asks_nobody_who_they_are(client, method, path, may):
    for token in (
        "",
        "Basic abc",
        "Bearer garbage",
        f"Bearer {expired(client)}",
        f"Bearer {revoked(client)}",
    ):
        assert ask(client, method, path, token).status_code not in (401, 403)


@every_guarded_route
def test_a_guarded_route_says_why_it_takes_no_token(client, method, path, may):
    for token, reason in (
        ("", "token_missing"),
        ("Basic abc", "token_missing"),
        ("Bearer", "token_missing"),
        ("Bearer garbage", "token_invalid"),
        (f"Bearer {visitor(client).refresh_token}", "token_invalid"),
        (f"Bearer {expired(client)}", "token_expired"),
        (f"Bearer {revoked(client)}", "token_revoked"),
    ):
        result = ask(client, method, path, token)
        assert result.status_code == 401, token
        assert result.headers["WWW-Authenticate"] == "Bearer"
        if method != "HEAD":
            assert error(result) == (401, "UNAUTHORIZED")
            assert result.json["error"]["details"] == {"reason": reason}


@every_guarded_route
@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_use_exactly_what_the_policy_says(client, method, path, may, role):
    result = ask(client, method, path, f"Bearer {visitor(client, role).token}")
    if role in ROLES_BY_PERMISSION[may]:
        assert result.status_code not in (401, 403)
    else:
        assert result.status_code == 403
        if method != "HEAD":
            assert error(result) == (403, "FORBIDDEN")


@every_address
def test_another_method_is_a_405_that_names_the_known_ones(client, address):
    known = {*address.methods, "OPTIONS", *(["HEAD"] if "GET" in address.methods else [])}
    for method in {*METHODS, "HEAD"} - known:
        result = client.simulate_request(method, address.path)
        assert result.status_code == 405
        assert set(result.headers["Allow"].split(", ")) == known
        if method != "HEAD":
            assert error(result) == (405, "METHOD_NOT_ALLOWED")


@every_read
def test_a_head_has_the_headers_of_the_get(client, path):
    token = f"Bearer {visitor(client).token}"
    got, head = (ask(client, method, path, token) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (got.status_code, b"")
    # What counts requests has counted one more by then.
    varying = {"x-request-id", *(["content-length"] if path == "/metrics" else [])}
    assert but(head, varying) == but(got, varying)


def but(result, names: set[str]) -> dict[str, str]:
    return {name: value for name, value in result.headers.items() if name.lower() not in names}


@every_route
def test_every_answer_has_the_id_of_its_request(client, method, path, may):
    headers = {"X-Request-ID": "matrix-1"}
    assert client.simulate_request(method, path, headers=headers).headers["X-Request-ID"] == "matrix-1"
    assert client.simulate_request(method, path).headers["X-Request-ID"]


def test_a_route_without_an_operation_is_refused():
    class Undeclared:
        def on_get(self, _req, resp):
            resp.text = "anybody may read this"

    class WithoutMethods:
        pass

    for resource in (Undeclared(), WithoutMethods()):
        with pytest.raises(TypeError, match="/api/undeclared"):
            add_route(falcon.App(), "/api/undeclared", resource)
