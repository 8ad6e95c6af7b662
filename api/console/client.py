"""The console's client of the API: it calls the application in this process, as any client does over HTTP.

So the API decides what a page may show or change, and a page needs no rule of its own.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from falcon import Request

from api.http.operation import IS_AWAITED
from api.middleware import rate_limit
from db.core import request_context

# The parts of the browser's request that are passed on to the API.
_PASSED_ON = (
    *("REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "HTTP_HOST", "wsgi.url_scheme"),
    *("HTTP_USER_AGENT", "HTTP_X_FORWARDED_FOR", "HTTP_TRACEPARENT", "HTTP_TRACESTATE"),
    *("wsgi.version", "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", IS_AWAITED),
)


@dataclass(frozen=True)
class Call:
    """A request to the API: the method, and the path with its query."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Reply:
    """A response of the API. `chunks` is its body, not read yet."""

    call: Call
    status: int
    headers: Mapping[str, str]
    chunks: Iterable[bytes] = field(repr=False)

    def content(self) -> bytes:
        """Reads the body to its end, and closes it."""
        try:
            return b"".join(self.chunks)
        finally:
            close = getattr(self.chunks, "close", None)
            if close:
                close()


class Data(dict[str, Any]):
    """What the API sent as `data`. `call` is the request that asked for it, `etag` its version, if any."""

    def __init__(self, values: Mapping[str, Any], call: Call, etag: str | None = None) -> None:
        super().__init__(values)
        self.call, self.etag = call, etag


class ApiError(Exception):
    """An error response of the API."""

    def __init__(self, reply: Reply, error: Mapping[str, Any]) -> None:
        super().__init__(f"{reply.call}: {reply.status}")
        self.status, self.headers = reply.status, reply.headers
        self.code, self.message = str(error["code"]), str(error["message"])
        self.details: dict[str, Any] = error.get("details") or {}

    @property
    def fields(self) -> dict[str, str]:
        """What is wrong with each field, by its name."""
        return {each["field"]: each["message"] for each in self.details.get("fields", ())}


class Api:
    """The API on behalf of one request to the console. `token` is the caller's access token."""

    def __init__(self, app: Callable[..., Iterable[bytes]], req: Request) -> None:
        self._app, self._environ = app, req.env
        self.token: str | None = None
        # Whether sign-ins count against RATE_LIMIT_AUTH; not those of demo users, whose password is public.
        self.counts_sign_ins = True

    def get(self, path: str, query: Mapping[str, Any] | None = None, **headers: str) -> Data:
        """Sends a GET to a path below /api; leaves out what is empty in the query. Raises ApiError."""
        return self._data(self.send("GET", path, query=query, headers=headers))

    def post(self, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Data:
        """Sends a POST. Headers are named as `Idempotency_Key`. Raises ApiError."""
        return self._data(self.send("POST", path, body=body, headers=headers))

    def put(self, path: str, body: Mapping[str, Any], **headers: str) -> Data:
        """Sends a PUT. Raises ApiError."""
        return self._data(self.send("PUT", path, body=body, headers=headers))

    def delete(self, path: str, **headers: str) -> Data:
        """Sends a DELETE. Raises ApiError."""
        return self._data(self.send("DELETE", path, headers=headers))

    def upload(self, path: str, req: Request) -> Data:
        """Passes on a form with a file, with its Content-Type, which names the boundary. Raises ApiError."""
        content: bytes = req.bounded_stream.read()
        headers = {"Content-Type": req.content_type or ""}
        return self._data(self.send("POST", path, body=content, headers=headers))

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Sends a request; returns the response whatever its status. A body in bytes names its own type."""
        text = urlencode({name: value for name, value in (query or {}).items() if value not in (None, "")})
        environ = {name: self._environ[name] for name in _PASSED_ON if name in self._environ}
        environ |= {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": f"/api{path}",
            "QUERY_STRING": text,
            "HTTP_X_REQUEST_ID": request_context.current().request_id or "",
            rate_limit.UNCOUNTED: ("api",) if self.counts_sign_ins else ("api", "auth"),
        }
        if self.token:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {self.token}"
        content = b""
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(content))}
        environ["wsgi.input"] = io.BytesIO(content)
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        started: list[Any] = []
        # The application binds a context of its own, and unbinds it.
        with request_context.acting_as(request_context.current()):
            chunks = self._app(environ, lambda status, headers, _info=None: started.extend((status, headers)))
        status, sent = started
        call = Call(method, f"/api{path}" + (f"?{text}" if text else ""))
        return Reply(call, int(status[:3]), {name.lower(): value for name, value in sent}, chunks)

    @staticmethod
    def _data(reply: Reply) -> Data:
        envelope = json.loads(reply.content())
        if not envelope["success"]:
            raise ApiError(reply, envelope["error"])
        return Data(envelope["data"] or {}, reply.call, reply.headers.get("etag"))
