"""An operation: what a responder asks for, takes and gives, said once, next to it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import IO, Any, TypeVar

from falcon import Request, Response
from pydantic import BaseModel

from api.http import admission, envelope, etag, forms
from api.http.body import read_body, read_query
from api.http.requests import EmptyBody, OneOfBodies, Query, RequestBody
from api.security.permissions import Permission
from db.core.errors import DomainError

R = TypeVar("R", bound=Callable[..., None])


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a route's method is: who may call it, what it takes, and what it returns.

    The fields from `name` on are read by the OpenAPI document and the tests alone.
    """

    permission: Permission
    # The `message` of the success envelope.
    message: str
    status: int = 200
    # The body and the query; the responder gets them as its arguments of the same names.
    body: type[RequestBody] | type[OneOfBodies[Any]] | None = None
    query: type[Query] | None = None
    # The form field that carries a file, instead of a JSON body, and the media types it may have.
    file: str | None = None
    content_types: tuple[str, ...] = ()
    # The response is one resource: it carries an ETag and honours If-None-Match.
    etag: bool = False
    # Honours If-Match.
    if_match: bool = False
    # Honours an Idempotency-Key.
    idempotent: bool = False
    # Honours `Prefer: wait`.
    prefer_wait: bool = False
    # The media type that it returns besides JSON, on request.
    downloads: str | None = None
    # May change data also while `maintenance.readOnly` is set.
    allowed_in_maintenance: bool = False
    name: str = ""
    response: type[BaseModel] | None = None
    # The errors of its own; those that the middleware raises need not be named.
    errors: tuple[type[DomainError], ...] = ()
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class RawOperation:
    """What a route's method is that writes its response itself, outside the envelope, to anyone."""

    name: str = ""
    media: str = "application/json"
    response: type[BaseModel] | None = None
    statuses: tuple[int, ...] = (200,)
    etag: bool = False
    errors: tuple[type[DomainError], ...] = ()
    about: str = ""


@dataclass(frozen=True)
class Versioned:
    """A response whose ETag is the version of its resource, and not a digest of its content."""

    data: BaseModel | Mapping[str, Any]
    version: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """A finished response, sent as it is: `body` is the whole envelope, from `envelope.success`."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """A file, written whole before its first byte is sent: it is complete, or it is an error."""

    file: IO[bytes]
    length: int
    media: str
    name: str

    def send(self, req: Request, resp: Response) -> None:
        """Answers with it; to a HEAD, with what there is to say of it."""
        resp.content_type = self.media
        resp.downloadable_as = self.name
        if req.method == "HEAD":
            # Falcon would drop the stream without closing it.
            self.file.close()
            resp.content_length = self.length
        else:
            resp.set_stream(self.file, self.length)


def operation(
    permission: Permission, message: str, **declared: Any
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Makes a Falcon responder of a function that returns the response's data, or a `Versioned`, `Rendered` or
    `Download`.

    `declared` are the fields of `Operation`. The function gets the request, the path's parameters, and as
    `body`, `query` or `file` what it declares. `req.context.operation` is the declaration.
    """
    declaration = Operation(permission=permission, message=message, **declared)

    def decorate(do: Callable[..., Any]) -> Callable[..., None]:
        @wraps(do)
        def respond(self: object, req: Request, resp: Response, **params: Any) -> None:
            req.context.operation = declaration
            if declaration.body is not None:
                found = read_body(req, declaration.body)
                params["body"] = found.root if isinstance(found, OneOfBodies) else found
            elif declaration.file is not None:
                # A slow client must not hold a database connection meanwhile.
                with admission.without_connection(req):
                    params["file"] = forms.file(req, declaration.file)
            elif req.context.raw:
                read_body(req, EmptyBody)
            if declaration.query is not None:
                params["query"] = read_query(req, declaration.query)
            data = do(self, req, **params)
            if isinstance(data, Rendered):
                envelope.succeed(resp, data.body, status=data.status)
                resp.set_headers(dict(data.headers))
                return
            if isinstance(data, Download):
                data.send(req, resp)
                return
            tagged = data if isinstance(data, Versioned) else None
            body = envelope.success(tagged.data if tagged else data, declaration.message)
            envelope.succeed(resp, body, status=declaration.status)
            if declaration.etag:
                etag.tag(req, resp, tagged.version if tagged else None)
            if tagged:
                resp.set_headers(dict(tagged.headers))

        respond.operation = replace(  # type: ignore[attr-defined]
            declaration,
            errors=declaration.errors + ((etag.VersionMismatch,) if declaration.if_match else ()),
            about=_about(do),
        )
        return respond

    return decorate


def raw_operation(**declared: Any) -> Callable[[R], R]:
    """Declares a responder that writes its response itself; `declared` are the fields of `RawOperation`."""

    def decorate(respond: R) -> R:
        respond.raw_operation = RawOperation(about=_about(respond), **declared)  # type: ignore[attr-defined]
        return respond

    return decorate


def operation_of(resource: object, req: Request) -> Operation | None:
    """The operation that a request is for; None when the resource does not know the method."""
    return declared(resource, req.method)


def declared(resource: object, method: str) -> Operation | None:
    """The operation behind a method of a resource."""
    responder = getattr(resource, f"on_{method.lower()}", None)
    return getattr(responder, "operation", None)


def raw_operation_of(resource: object, method: str) -> RawOperation | None:
    """The raw operation behind a method of a resource."""
    responder = getattr(resource, f"on_{method.lower()}", None)
    return getattr(responder, "raw_operation", None)


def _about(responder: Callable[..., Any]) -> str:
    return inspect.cleandoc(responder.__doc__ or "")
