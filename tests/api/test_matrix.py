"""Every route with every method and every kind of caller, taken from the application's own routes."""

from uuid import UUID

import falcon
import pytest

from api.app import add_route
from api.http.operation import Operation, RawOperation
from api.security.permissions import ROLES_BY_PERMISSION, Permission
from db import sessions
from db.users import Role
from tests.api.routing import Address, addresses, is_page
from tests.makers import MOMENT, error, signed_in, user, visitor

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ADDRESSES = list(addresses())


def permission_of(declaration: Operation | RawOperation) -> Permission:
    return declaration.permission if isinstance(declaration, Operation) else Permission.ANYONE


ROUTES = [
    (address, method, permission_of(declaration))
    for address in ADDRESSES
    for method, declaration in address.methods.items()
]


def each(routes: list[tuple[Address, str, Permission]]) -> pytest.MarkDecorator:
    params = [
        pytest.param(address.path, method, permission, id=f"{method} {address.template}")
        for address, method, permission in routes
    ]
    return pytest.mark.parametrize(("path", "method", "permission"), params)


PUBLIC = [route for route in ROUTES if route[2] is Permission.ANYONE]
PROTECTED = [route for route in ROUTES if route[2] is not Permission.ANYONE]

every_route, every_public_route, every_protected_route = each(ROUTES), each(PUBLIC), each(PROTECTED)
every_address = pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: address.template)
every_read = pytest.mark.parametrize(
    "path",
    [pytest.param(address.path, id=address.template) for address in ADDRESSES if "GET" in address.methods],
)


def send(client, method, path, token=""):
    headers = {"Authorization": token} if token else {}
    return client.simulate_request(method, path, headers=headers)


def expired_token(client) -> str:
    return signed_in(client, user(), at=MOMENT).token


def revoked_token(client) -> str:
    signed_out = visitor(client)
    sessions.end(UUID(signed_out.user["id"]))
    return signed_out.token


def test_the_matrix_is_not_empty():
    assert {
        role for _address, _method, permission in PROTECTED for role in ROLES_BY_PERMISSION[permission]
    } == set(Role)
    assert PUBLIC


@every_public_route
def test_a_public_route_ignores_tokens(client, method, path, permission):
    without = send(client, method, path, "").status_code
    # The pages of the sign-in answer an empty form as the API answers a wrong password.
    assert without not in (401, 403) or path.startswith("/console/sign-in")
    for token in (
        "Basic abc",
        "Bearer garbage",
        f"Bearer {expired_token(client)}",
        f"Bearer {revoked_token(client)}",
    ):
        assert send(client, method, path, token).status_code == without


@every_protected_route
def test_a_protected_route_says_why_a_token_is_refused(client, method, path, permission):
    for token, reason in (
        ("", "token_missing"),
        ("Basic abc", "token_missing"),
        ("Bearer", "token_missing"),
        ("Bearer garbage", "token_invalid"),
        (f"Bearer {visitor(client).refresh_token}", "token_invalid"),
        (f"Bearer {expired_token(client)}", "token_expired"),
        (f"Bearer {revoked_token(client)}", "token_revoked"),
    ):
        result = send(client, method, path, token)
        assert result.status_code == 401, token
        assert result.headers["WWW-Authenticate"] == "Bearer"
        if method != "HEAD":
            assert error(result) == (401, "UNAUTHORIZED")
            assert result.json["error"]["details"] == {"reason": reason}


@every_protected_route
@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_use_exactly_its_routes(client, method, path, permission, role):
    result = send(client, method, path, f"Bearer {visitor(client, role).token}")
    if role in ROLES_BY_PERMISSION[permission]:
        assert result.status_code not in (401, 403)
    else:
        assert result.status_code == 403
        if method != "HEAD":
            assert error(result) == (403, "FORBIDDEN")


@every_address
def test_an_unknown_method_is_a_405_that_names_the_allowed_ones(client, address):
    known = {*address.methods, "OPTIONS", *(["HEAD"] if "GET" in address.methods else [])}
    for method in {*METHODS, "HEAD"} - known:
        result = client.simulate_request(method, address.path)
        assert result.status_code == 405
        assert set(result.headers["Allow"].split(", ")) == known
        if method != "HEAD" and not is_page(address.template):
            assert error(result) == (405, "METHOD_NOT_ALLOWED")


@every_read
def test_head_has_the_headers_of_get(client, path):
    token = f"Bearer {visitor(client).token}"
    got, head = (send(client, method, path, token) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (got.status_code, b"")
    # /metrics has counted one more request by then.
    varying = {"x-request-id", "traceparent", *(["content-length"] if path == "/metrics" else [])}
    assert headers_without(head, varying) == headers_without(got, varying)


def headers_without(result, names: set[str]) -> dict[str, str]:
    return {name: value for name, value in result.headers.items() if name.lower() not in names}


@every_route
def test_every_response_has_its_request_id(client, method, path, permission):
    headers = {"X-Request-ID": "matrix-1"}
    assert client.simulate_request(method, path, headers=headers).headers["X-Request-ID"] == "matrix-1"
    assert client.simulate_request(method, path).headers["X-Request-ID"]


def test_a_route_without_an_operation_is_refused():
    class Undeclared:
        def on_get(self, _req, resp):
            resp.text = "unprotected"

    class WithoutMethods:
        pass

    for resource in (Undeclared(), WithoutMethods()):
        with pytest.raises(TypeError, match="/api/undeclared"):
            add_route(falcon.App(), "/api/undeclared", resource)
