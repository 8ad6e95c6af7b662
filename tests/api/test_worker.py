"""What a body that is still to come costs meanwhile."""

import tempfile
from io import BytesIO

import pytest

from api.middleware.body_limit import MIB
from api.worker import _Late, _whole_body


class Slow(BytesIO):
    """The body of a client that sends so much, and then no more in time."""

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        if not piece:
            raise TimeoutError
        return piece


@pytest.fixture
def files(monkeypatch):
    """Every file that is made."""
    made = []
    make = tempfile.TemporaryFile

    def counted(*of, **more):
        made.append(make(*of, **more))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", counted)
    return made


def environ(content, length):
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/payments",
        "CONTENT_LENGTH": str(length),
        "wsgi.input": content,
    }


def test_a_client_that_has_sent_little_of_a_large_body_costs_no_file(files):
    with pytest.raises(_Late):
        _whole_body(environ(Slow(b'{"a":'), MIB))
    assert not files


def test_a_large_body_waits_in_a_file(files):
    content = b"x" * MIB
    with _whole_body(environ(BytesIO(content), MIB)) as body:
        assert len(files) == 1
        assert body.read() == content


def test_the_file_of_a_client_that_stops_sending_is_closed(files):
    with pytest.raises(_Late):
        _whole_body(environ(Slow(b"x" * (MIB // 2)), MIB))
    assert [file.closed for file in files] == [True]
