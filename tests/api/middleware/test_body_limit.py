"""How large a body may be is said by its length, before it is read."""

import falcon
import pytest
from falcon.testing import TestClient

from api.http import envelope
from api.middleware.body_limit import MAX_BODY_BYTES, MIB, BodyLimit
from tests.makers import error


class Unreadable:
    def read(self, *_):
        raise AssertionError("it was read")

    readline = readlines = __iter__ = read


@pytest.fixture
def client():
    class Taker:
        def on_post(self, _req, _resp):
            pass

    app = falcon.App(middleware=[BodyLimit()])
    envelope.install(app)
    for path in ("/api/profile/avatar", "/other"):
        app.add_route(path, Taker())
    return TestClient(app)


def post(client, path, size):
    return client.simulate_post(
        path, headers={"Content-Length": str(size)}, extras={"wsgi.input": Unreadable()}
    )


def test_one_mebibyte_is_taken_and_a_byte_more_is_refused_unread(client):
    assert client.simulate_post("/other", body=b"x" * MAX_BODY_BYTES).status_code == 200
    result = post(client, "/other", MAX_BODY_BYTES + 1)
    assert error(result) == (413, "PAYLOAD_TOO_LARGE")
    assert "1 MiB" in result.json["error"]["message"]


def test_a_path_may_take_more_and_says_how_much(client):
    assert post(client, "/api/profile/avatar", 5 * MIB).status_code == 200
    result = post(client, "/api/profile/avatar", 5 * MIB + 1)
    assert error(result) == (413, "PAYLOAD_TOO_LARGE")
    assert "5 MiB" in result.json["error"]["message"]
