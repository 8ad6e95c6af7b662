"""The declaration of a route's method, and the Falcon responder that is made from it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import wraps
from types import SimpleNamespace
from typing import IO, Any, TypeVar, cast

from falcon import Request, Response
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from api.http import etag, responses
from api.http.body import read_body, read_file, read_query
from api.http.fields import EmptyBody, OneOfBodies, Query, RequestBody
from api.security.permissions import Permission
from db.core.errors import DomainError

R = TypeVar("R", bound=Callable[..., None])


@dataclass(frozen=True)
class Operation:
    """The declaration of one method of a route, as a decorator of the function that handles it.

    The function's annotations name the models of the body, the query and the response. `body` and `response`
    are declared where the annotation is not exactly the model. `name` is the function's, in camelCase. The
    fields from `name` on are used by the OpenAPI document only.
    """

    permission: Permission
    # The `message` of the success envelope.
    message: str
    _: KW_ONLY
    status: int = 200
    # The responder gets the instances of these models as arguments of the same names.
    body: type[RequestBody] | type[OneOfBodies[Any]] | None = None
    query: type[Query] | None = None
    # Instead of a JSON body: the form field with a file, and the media types it may have.
    file: str | None = None
    content_types: tuple[str, ...] = ()
    # Returns one resource with an ETag, and honours If-None-Match.
    etag: bool = False
    # The caller is read for each request, not remembered: the response shows the user.
    reads_user: bool = False
    # Allowed while `maintenance.readOnly` is set, although its method changes data.
    allowed_in_maintenance: bool = False
    name: str = ""
    response: type[BaseModel] | None = None
    # The errors that the operation itself raises, without those of the middleware.
    errors: tuple[type[DomainError], ...] = ()
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    if_match: bool = False
    idempotent: bool = False
    prefer_wait: bool = False
    # The media type of a download, which is sent on request, or always if there is no response model.
    downloads: str | None = None
    # The media type of a response that does not end, which a `ticket` in the query may open.
    streams: str | None = None

    def __call__(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Makes a Falcon responder of a function that returns a response.

        The function gets the request, the path's parameters, and those of `body`, `query` and `file` that are
        declared. It returns a response model, None, a stored JSON object, or a `Versioned`, `Rendered`,
        `Download` or `Streamed`. `req.context.operation` is the declaration.
        """
        annotations = function.__annotations__
        returned = annotations.get("return")
        is_model = isinstance(returned, type) and issubclass(returned, BaseModel)
        declaration = replace(
            self,
            name=to_camel(function.__name__),
            body=self.body or annotations.get("body"),
            query=annotations.get("query"),
            response=self.response or (returned if is_model else None),
        )

        @wraps(function)
        def respond(*arguments: Any, **params: Any) -> None:
            # `bound` holds the object of a method, and is empty for a function.
            *bound, req, resp = arguments
            req.context.operation = declaration
            _send(req, resp, function(*bound, req, **params, **_read(req, declaration)))

        respond.declaration = declaration  # type: ignore[attr-defined]
        return respond


@dataclass(frozen=True, kw_only=True)
class RawOperation:
    """The declaration of a public responder that writes its response itself, outside the envelope."""

    name: str = ""
    media: str = "application/json"
    response: type[BaseModel] | None = None
    statuses: tuple[int, ...] = (200,)
    etag: bool = False
    errors: tuple[type[DomainError], ...] = ()

    def __call__(self, respond: R) -> R:
        respond.declaration = self  # type: ignore[attr-defined]
        return respond


@dataclass(frozen=True)
class Versioned:
    """A response whose ETag is the version of its resource, and not a digest of its content."""

    data: BaseModel
    version: int | str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """A finished response, sent as it is: `body` is the whole envelope, from `responses.success`."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


# How much of a download stays in memory before it goes to the disk.
DOWNLOAD_MEMORY_LIMIT_BYTES = 1024 * 1024


@contextmanager
def download_file() -> Iterator[IO[bytes]]:
    """Opens the file of a `Download`; closes it if the block that writes it fails."""
    file = cast(IO[bytes], tempfile.SpooledTemporaryFile(DOWNLOAD_MEMORY_LIMIT_BYTES))  # noqa: SIM115
    try:
        yield file
    except BaseException:
        file.close()
        raise


@dataclass(frozen=True)
class Download:
    """A file from `download_file`, complete before its first byte is sent.

    So a slow client holds no database connection, and what fails while the file is written can still be sent
    as an error response.
    """

    file: IO[bytes]
    media: str
    name: str

    def send(self, req: Request, resp: Response) -> None:
        length = self.file.tell()
        self.file.seek(0)
        resp.content_type = self.media
        resp.downloadable_as = self.name
        if req.method == "HEAD":
            # Falcon would drop the stream without closing it.
            self.file.close()
            resp.content_length = length
        else:
            resp.set_stream(self.file, length)


# The key of a function in the WSGI environment, which returns whether the client still waits for the
# response. The console passes it on to the API, so that a stream ends with its client, or with the process.
IS_AWAITED = "paywright.is_awaited"


@dataclass(frozen=True)
class Streamed:
    """A response that does not end by itself: the pieces of its body, made while they are sent.

    By then the request holds neither a database connection nor a slot of the requests that execute.
    """

    pieces: Iterator[bytes]
    media: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, _req: Request, resp: Response) -> None:
        """Sends the pieces. For a HEAD Falcon drops them: they must need no `close` before the first one."""
        resp.content_type = self.media
        resp.set_headers(dict(self.headers))
        resp.stream = self.pieces


def _read(req: Request, declaration: Operation) -> dict[str, Any]:
    """Returns what a function gets of the request, as it declares: `body` or `file`, and `query`."""
    arguments: dict[str, Any] = {}
    if declaration.body is not None:
        body = read_body(req, declaration.body)
        arguments["body"] = body.root if isinstance(body, OneOfBodies) else body
    elif declaration.file is not None:
        arguments["file"] = read_file(req, declaration.file)
    elif req.context.raw:
        read_body(req, EmptyBody)
    if declaration.query is not None:
        arguments["query"] = read_query(req, declaration.query)
    return arguments


def _send(req: Request, resp: Response, result: Any) -> None:
    """Sends what the function of an operation has returned."""
    declaration: Operation = req.context.operation
    if isinstance(result, Download | Streamed):
        result.send(req, resp)
        return
    if isinstance(result, Rendered):
        responses.send(resp, result.body, status=result.status)
        resp.set_headers(dict(result.headers))
        return
    version = None
    if isinstance(result, Versioned):
        resp.set_headers(dict(result.headers))
        version, result = result.version, result.data
    responses.send(resp, responses.success(result, declaration.message), status=declaration.status)
    if declaration.etag:
        etag.tag(req, resp, version)


def route(**responders: Callable[..., None]) -> SimpleNamespace:
    """Returns the resource of a path by its methods, for Falcon: `route(get=users.list_users)`."""
    return SimpleNamespace(**{f"on_{method}": responder for method, responder in responders.items()})


def declaration_of(resource: object, method: str) -> Operation | RawOperation | None:
    """Returns the declaration of a resource's method; None if the resource does not support the method."""
    responder = getattr(resource, f"on_{method.lower()}", None)
    return getattr(responder, "declaration", None)


def operation_of(resource: object, req: Request) -> Operation | None:
    """Returns the operation that a request calls; None for a raw operation or an unsupported method."""
    declaration = declaration_of(resource, req.method)
    return declaration if isinstance(declaration, Operation) else None
