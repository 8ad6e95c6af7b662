"""A body that is too large is refused by its Content-Length, before it is read."""

import falcon
import pytest
from falcon.testing import TestClient

from api.http import responses
from api.middleware.body_limit import MAX_BODY_BYTES, MIB, BodyLimit
from tests.makers import error


class Unreadable:
    def read(self, *_):
        raise AssertionError("the body was read")

    readline = readlines = __iter__ = read


@pytest.fixture
def client():
    class Resource:
        def on_post(self, _req, _resp):
            pass

    app = falcon.App(middleware=[BodyLimit()])
    responses.install(app)
    for path in ("/api/profile/avatar", "/other"):
        app.add_route(path, Resource())
    return TestClient(app)


def post(client, path, size):
    return client.simulate_post(
        path, headers={"Content-Length": str(size)}, extras={"wsgi.input": Unreadable()}
    )


def test_a_body_over_one_mebibyte_is_refused_unread(client):
    assert client.simulate_post("/other", body=b"x" * MAX_BODY_BYTES).status_code == 200
    result = post(client, "/other", MAX_BODY_BYTES + 1)
    assert error(result) == (413, "PAYLOAD_TOO_LARGE")
    assert "1 MiB" in result.json["error"]["message"]


def test_a_path_may_have_a_larger_limit(client):
    assert post(client, "/api/profile/avatar", 5 * MIB).status_code == 200
    result = post(client, "/api/profile/avatar", 5 * MIB + 1)
    assert error(result) == (413, "PAYLOAD_TOO_LARGE")
    assert "5 MiB" in result.json["error"]["message"]
