"""A request that waits for a client or a disk holds no database connection."""

import pytest
from falcon import Response
from falcon.testing import create_req

from api.http import admission, operation
from api.security.permissions import Permission
from db import postgres


@pytest.fixture
def req(stores):
    request = create_req()
    request.context.raw = b""
    with postgres.connection():
        request.context.opened = True
        yield request


def test_the_connection_is_released_and_taken_again(req):
    with admission.without_connection(req):
        assert postgres.database.is_closed()
        assert req.context.opened is False
    assert not postgres.database.is_closed()
    assert req.context.opened is True


def test_the_connection_is_taken_again_after_an_error(req):
    with pytest.raises(ZeroDivisionError), admission.without_connection(req):
        raise ZeroDivisionError
    assert not postgres.database.is_closed()


def test_a_connection_of_the_thread_stays_open(req):
    req.context.opened = False
    with admission.without_connection(req):
        assert not postgres.database.is_closed()


def test_a_form_is_read_without_one(req, monkeypatch):
    monkeypatch.setattr(operation, "read_file", lambda *_: str(postgres.database.is_closed()).encode())

    @operation.Operation(Permission.ANYONE, "Taken.", file="picture")
    def take(_self, _req, file):
        return {"closed": file.decode(), "again": postgres.database.is_closed()}

    resp = Response()
    take(None, req, resp)
    assert b'{"closed":"True","again":false}' in (resp.data or b"")
