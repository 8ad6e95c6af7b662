"""A head that is parsed at once is read as gunicorn reads it; a response is what the application returned."""

import io
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.message import Request as GunicornRequest
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.wire import MAX_WRITE_BYTES, BrokenResponse, Request, Response

CONFIG = Config()
CONFIG.set("forwarder_headers", "")
CONFIG.set("forwarded_allow_ips", "")
CONFIG.set("permit_unconventional_http_method", True)
CLIENT, SERVER = ("192.0.2.7", 4711), ("192.0.2.1", 80)
USUAL = b"GET /api/payments?limit=20 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\n\r\n"


def read(kind: type[GunicornRequest], sent: bytes):
    """What a request was read as; None where it was refused."""
    try:
        request = kind(CONFIG, IterUnreader([sent]), CLIENT)
        body = request.body.read()
    except (ParseException, NoMoreData, StopIteration):
        return None
    head = (request.method, request.uri, request.path, request.query, request.version, request.headers)
    return head, body, request.should_close(), request.unreader.buf.getvalue()


def parts():
    method = st.sampled_from([b"GET", b"POST", b"get", b"BREW", b"OPTIONS", b""])
    target = st.sampled_from(
        [b"/", b"/a?b=c", b"//a", b"*", b"/a#b", b"http://x/a", b"/\xc3\xa9", b"/a b", b"/%2F?"]
    )
    version = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"])
    name = st.sampled_from(
        [b"Host", b"A", b"a-b", b"A_B", b"Content-Length", b"content-length", b"Transfer-Encoding"]
    )
    name |= st.sampled_from(
        [b"Connection", b"Expect", b" A", b"A ", b"", b"Content-Type", b"Content_Length", b"\xdf"]
    )
    value = st.sampled_from(
        [b"", b" x", b"x \t", b"3", b"03", b"+3", b"chunked", b"close", b"a\x00b", b"a\x7f", b"\xff"]
    )
    value |= st.sampled_from([b"100-continue", b"\r\n x", b"a\nb", b"a\rb", b"5000" * 40])
    line_end = st.sampled_from([b"\r\n"] * 9 + [b"\n", b"\r", b""])
    field = st.tuples(name, st.sampled_from([b":", b": ", b" :", b""]), value, line_end).map(b"".join)
    first = st.tuples(method, st.sampled_from([b" ", b"  "]), target, st.just(b" "), version, line_end).map(
        b"".join
    )
    return st.tuples(
        first, st.lists(field, max_size=5).map(b"".join), st.just(b"\r\n"), st.sampled_from([b"", b"abcdef"])
    )


@given(parts().map(b"".join))
@settings(max_examples=400, deadline=None)
@example(USUAL)
@example(USUAL + USUAL)
@example(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET")
@example(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc")
@example(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n")
def test_every_head_is_read_as_gunicorn_reads_it(sent):
    assert read(Request, sent) == read(GunicornRequest, sent)


def test_the_usual_head_is_parsed_at_once(monkeypatch):
    monkeypatch.delattr(GunicornRequest, "_parse_python")
    outcome = read(Request, USUAL)
    assert outcome
    head, body, closes, rest = outcome
    assert head[1] == "/api/payments?limit=20"
    assert (body, closes, rest) == (b"", False, b"")


def test_the_application_gets_the_head_as_wsgi_names_it():
    sent = b"POST /a%20b?c=d HTTP/1.1\r\nContent-Type: x/y\r\nContent-Length: 0\r\nA-B: 1\r\na-b: 2\r\n\r\n"
    environ = Request(CONFIG, IterUnreader([sent]), CLIENT).environ(SERVER, CLIENT)
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]) == (
        "POST",
        "/a b",
        "c=d",
    )
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"], environ["HTTP_A_B"]) == ("x/y", "0", "1,2")
    assert (environ["REMOTE_ADDR"], environ["SERVER_PORT"]) == ("192.0.2.7", "80")


class Client(list[bytes]):
    sendall = list.append


def sent(body, status="200 OK", *, headers=(("content-length", "2"),), method=b"GET"):
    client = Client()
    request = Request(CONFIG, IterUnreader([USUAL.replace(b"GET", method, 1)]), CLIENT)
    response = Response(request, keep_alive=True)
    response.start(status, list(headers))
    response.send(client, body)
    return client, response.keep_alive


def test_a_response_is_one_write():
    [written], keep_alive = sent([b"{}"])
    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nDate: ")
    assert b"\r\nConnection: keep-alive\r\ncontent-length: 2" in head
    assert (body, keep_alive) == (b"{}", True)


def test_a_client_has_its_time_for_each_part_of_a_large_response():
    written, _ = sent([b"a" * 200_000, b"b" * 100_000])
    assert max(map(len, written)) <= MAX_WRITE_BYTES
    assert b"".join(written).endswith(b"\r\n\r\n" + b"a" * 200_000 + b"b" * 100_000)


@pytest.mark.parametrize(
    ("status", "method"), [("204 No Content", b"GET"), ("304 Not Modified", b"GET"), ("200 OK", b"HEAD")]
)
def test_a_response_that_has_no_body_sends_none(status, method):
    [written], keep_alive = sent([b"{}"], status, method=method)
    assert written.endswith(b"\r\n\r\n")
    assert keep_alive


def test_a_body_of_unknown_length_ends_with_the_connection():
    written, keep_alive = sent(iter([b"a", b"b"]), headers=())
    assert written[1:] == [b"a", b"b"]
    assert b"Connection: close" in written[0]
    assert not keep_alive


def test_a_body_that_breaks_off_is_not_followed_by_another_response():
    def broken():
        yield b"a"
        raise ZeroDivisionError

    with pytest.raises(BrokenResponse):
        sent(broken())


def test_a_file_is_closed_when_its_client_is_gone():
    class Gone(Client):
        def sendall(self, _piece):
            raise BrokenPipeError

    file = io.BytesIO(b"content")
    request = Request(CONFIG, IterUnreader([USUAL]), CLIENT)
    response = Response(request, keep_alive=True)
    response.start("200 OK", [])
    body = SimpleNamespace(__iter__=lambda: iter(file), close=file.close)
    with pytest.raises(BrokenPipeError):
        response.send(Gone(), body)
    assert file.closed


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
def test_no_header_can_add_another_one(value):
    with pytest.raises(ValueError, match="line break"):
        sent([b""], headers=[("x", value)])
