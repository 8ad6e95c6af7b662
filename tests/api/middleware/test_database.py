"""Who waits for a client or a disk holds no connection to the database."""

import pytest
from falcon import Response
from falcon.testing import create_req

from api.http import admission, forms, operation
from api.security.permissions import Permission
from db import postgres


@pytest.fixture
def req(stores):
    asked = create_req()
    asked.context.raw = b""
    with postgres.connection():
        asked.context.opened = True
        yield asked


def test_it_is_given_back_meanwhile_and_taken_again(req):
    with admission.without_connection(req):
        assert postgres.database.is_closed()
        assert req.context.opened is False
    assert not postgres.database.is_closed()
    assert req.context.opened is True


def test_it_is_taken_again_whatever_happens(req):
    with pytest.raises(ZeroDivisionError), admission.without_connection(req):
        raise ZeroDivisionError
    assert not postgres.database.is_closed()


def test_what_somebody_else_opened_is_left_open(req):
    req.context.opened = False
    with admission.without_connection(req):
        assert not postgres.database.is_closed()


def test_a_form_is_read_without_one(req, monkeypatch):
    monkeypatch.setattr(forms, "read_file", lambda *_: str(postgres.database.is_closed()).encode())

    @operation.operation(Permission.ANYONE, "Taken.", file="picture")
    def take(_self, _req, file):
        return {"closed": file.decode(), "again": postgres.database.is_closed()}

    resp = Response()
    take(None, req, resp)
    assert b'{"closed":"True","again":false}' in (resp.data or b"")
