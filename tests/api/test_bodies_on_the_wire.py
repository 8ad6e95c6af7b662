"""A body that is still arriving costs little."""

import tempfile
from io import BytesIO

import pytest

from api.middleware.body_limit import MIB
from api.wire import RequestTimeout, read_body


class Slow(BytesIO):
    """The body of a client that sends this much and then stops."""

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        if not piece:
            raise RequestTimeout
        return piece


@pytest.fixture
def files(monkeypatch):
    """The temporary files that are created."""
    created = []
    create = tempfile.TemporaryFile

    def recorded(*args, **options):
        created.append(create(*args, **options))
        return created[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", recorded)
    return created


def environ(content, length):
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/payments",
        "CONTENT_LENGTH": str(length),
        "wsgi.input": content,
    }


def test_the_beginning_of_a_large_body_creates_no_file(files):
    with pytest.raises(RequestTimeout):
        read_body(environ(Slow(b'{"a":'), MIB))
    assert not files


def test_a_large_body_is_kept_in_a_file(files):
    content = b"x" * MIB
    with read_body(environ(BytesIO(content), MIB)) as content_file:
        assert len(files) == 1
        assert content_file.read() == content


def test_the_file_of_a_client_that_stops_sending_is_closed(files):
    with pytest.raises(RequestTimeout):
        read_body(environ(Slow(b"x" * (MIB // 2)), MIB))
    assert [file.closed for file in files] == [True]
