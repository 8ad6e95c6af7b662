"""An operation: what a responder asks for, takes and gives, said once, next to it."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import IO, Any, TypeVar
from uuid import UUID

from falcon import Request, Response
from pydantic import BaseModel

from api.http import envelope, etag, forms, idle
from api.http.body import read_body, read_query
from api.http.fields import Choice, Nothing, Query, Shape
from api.payments import idempotency, prefer
from api.security.permissions import Permission
from db import postgres
from db.core.errors import Fault

# In seconds.
_AS_A_LOCK = 3.0

R = TypeVar("R", bound=Callable[..., None])


@dataclass(frozen=True)
class Operation:
    """What a route's method is: who may use it, the shape of its body or query, and of its answer."""

    may: Permission
    takes: type[Shape] | type[Choice[Any]] | None
    asks: type[Query] | None
    status: int
    message: str
    # The answer is one thing: it carries an ETag and honours If-None-Match.
    one: bool
    # An Idempotency-Key is heard.
    idempotent: bool
    # `Prefer: wait` is heard.
    waits: bool
    # What it gives besides JSON, to whoever asks for it.
    downloads: str | None
    # If-Match is heard.
    guarded: bool
    # It may change something also while `maintenance.readOnly` is set.
    always: bool
    # The field of the form that brings a file, instead of a body in a shape; and of what kinds it may be.
    file: str | None
    kinds: tuple[str, ...]
    # From here on only the document of the API and the tests read it (api/openapi).
    name: str
    gives: type[BaseModel] | None
    refuses: tuple[type[Fault], ...]
    examples: Mapping[str, Mapping[str, Any]]
    about: str


@dataclass(frozen=True)
class Page:
    """What answers anyone outside the envelope, and opens no connection: health, keys, documents."""

    name: str
    media: str
    gives: type[BaseModel] | None
    statuses: tuple[int, ...]
    one: bool
    refuses: tuple[type[Fault], ...]
    about: str


@dataclass(frozen=True)
class Tagged:
    """One thing with a version of its own, which becomes its ETag; without one, its content does.

    `waited`: the answer waited for another version than the caller has.
    """

    data: Mapping[str, Any]
    version: int
    waited: bool = False


@dataclass(frozen=True)
class Accepted:
    """What is done in one transaction, with its Idempotency-Key, and ends behind the door.

    `do` gives the data of the answer; `settled` that of the thing with this id once it is settled, else None.
    """

    do: Callable[[], dict[str, Any]]
    settled: Callable[[UUID], dict[str, Any] | None]


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
    may: Permission,
    message: str,
    *,
    takes: type[Shape] | type[Choice[Any]] | None = None,
    asks: type[Query] | None = None,
    status: int = 200,
    one: bool = False,
    idempotent: bool = False,
    waits: bool = False,
    downloads: str | None = None,
    guarded: bool = False,
    always: bool = False,
    file: str | None = None,
    kinds: tuple[str, ...] = (),
    name: str = "",
    gives: type[BaseModel] | None = None,
    refuses: tuple[type[Fault], ...] = (),
    examples: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Makes a Falcon responder of a function that gets the request, the path's parameters, and the body or
    query in its shape (`body`, `query`) or the content of a file (`file`), and returns the data of the answer; what is
    handed on to the actors returns Accepted.

    The rest is for the document of the API: its operationId, the shape of the data, bodies to try, and the
    faults of its own. Those that the gates raise need not be named.
    """

    def decorate(do: Callable[..., Any]) -> Callable[..., None]:
        @wraps(do)
        def respond(self: object, req: Request, resp: Response, **params: Any) -> None:
            if takes is not None:
                found = read_body(req, takes)
                params["body"] = found.root if isinstance(found, Choice) else found
            elif file is not None:
                # A slow client must not hold a database connection meanwhile.
                with idle.released(req):
                    params["file"] = forms.file(req, file)
            elif req.context.raw:
                read_body(req, Nothing)
            if asks is not None:
                params["query"] = read_query(req, asks)
            data = do(self, req, **params)
            if isinstance(data, Accepted):
                _accept(req, resp, data, told, params.get("body"))
                return
            if isinstance(data, Download):
                data.send(req, resp)
                return
            tagged = data if isinstance(data, Tagged) else None
            body = envelope.success(tagged.data if tagged else data, message)
            envelope.succeed(resp, body, status=status)
            if one:
                etag.tag(req, resp, tagged.version if tagged else None)
            if tagged and tagged.waited:
                resp.set_header(prefer.APPLIED, f"wait={prefer.seconds(req)}")

        told = respond.operation = Operation(  # type: ignore[attr-defined]
            may,
            takes,
            asks,
            status,
            message,
            one,
            idempotent,
            waits,
            downloads,
            guarded,
            always,
            file,
            kinds,
            name,
            gives,
            refuses
            + ((idempotency.InProgress, idempotency.Mismatch) if idempotent else ())
            + ((etag.Changed,) if guarded else ()),
            examples or {},
            _about(do),
        )
        return respond

    return decorate


def _accept(
    req: Request, resp: Response, accepted: Accepted, told: Operation, body: BaseModel | None
) -> None:
    written = idempotency.once(
        req,
        body,
        status=told.status,
        message=told.message,
        do=accepted.do,
        heard=told.idempotent,
        waits=told.waits and prefer.seconds(req) > 0,
    )
    if written.waited_for:
        # The first one waits for its answer; this one waits for it as for a lock, and as long. It takes a
        # seat: fifty under one key must not hold every thread.
        answer = prefer.another(req, lambda: idempotency.given(req), _AS_A_LOCK)
        if answer is None:
            raise idempotency.InProgress
        written = answer
    if written.to_come:
        status, content = written.status, written.body
        data = prefer.settled(req, written, accepted.settled)
        if data is not None:
            # Accepted it was before; by now it is done.
            status = 200 if status == 202 else status
            content = envelope.success(data, told.message)
        with suppress(*postgres.Unreachable):
            # What was accepted is accepted, and answered, though the answer cannot be kept now.
            written = idempotency.give(req, written, status=status, body=content, heard=told.idempotent)
        if data is not None and written.body == content:
            resp.set_header(prefer.APPLIED, f"wait={prefer.seconds(req)}")
    envelope.succeed(resp, written.body, status=written.status)
    if written.replayed:
        resp.set_header(idempotency.REPLAYED, "true")


def page(
    *,
    name: str = "",
    media: str = "application/json",
    gives: type[BaseModel] | None = None,
    statuses: tuple[int, ...] = (200,),
    one: bool = False,
    refuses: tuple[type[Fault], ...] = (),
) -> Callable[[R], R]:
    """Describes a responder that writes its answer itself."""

    def decorate(respond: R) -> R:
        respond.page = Page(name, media, gives, statuses, one, refuses, _about(respond))  # type: ignore[attr-defined]
        return respond

    return decorate


def operation_of(resource: object, req: Request) -> Operation | None:
    """The operation that a request is for; None when the resource does not know the method."""
    return declared(resource, req.method)


def declared(resource: object, method: str) -> Operation | None:
    """The operation behind a method of a resource."""
    responder = getattr(resource, f"on_{method.lower()}", None)
    return getattr(responder, "operation", None)


def page_of(resource: object, method: str) -> Page | None:
    """The page behind a method of a resource."""
    responder = getattr(resource, f"on_{method.lower()}", None)
    return getattr(responder, "page", None)


def _about(responder: Callable[..., Any]) -> str:
    return inspect.cleandoc(responder.__doc__ or "")
