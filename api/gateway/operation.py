"""An operation: what a responder asks for, takes and gives, said once, next to it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from falcon import Request, Response

from api.gateway import body, envelope
from api.policies import Permission
from api.shapes import Query, Shape


@dataclass(frozen=True)
class Operation:
    """What a route's method is: who may use it, the shape of its body or query, and of its answer."""

    may: Permission
    takes: type[Shape] | None
    asks: type[Query] | None
    status: int
    message: str
    # The answer is one thing: it carries an ETag and honours If-None-Match.
    one: bool


@dataclass(frozen=True)
class Tagged:
    """One thing with a version of its own, which becomes its ETag; without one, its content does."""

    data: Mapping[str, Any]
    version: int


def operation(
    may: Permission,
    message: str,
    *,
    takes: type[Shape] | None = None,
    asks: type[Query] | None = None,
    status: int = 200,
    one: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Makes a Falcon responder of a function that gets the request, the path's parameters, and the body or
    query in its shape (`wish`), and returns the data of the answer."""

    def decorate(do: Callable[..., Any]) -> Callable[..., None]:
        @wraps(do)
        def respond(self: object, req: Request, resp: Response, **params: Any) -> None:
            if takes is not None:
                params["wish"] = body.read(req, takes)
            if asks is not None:
                params["wish"] = body.query(req, asks)
            data = do(self, req, **params)
            tagged = data if isinstance(data, Tagged) else None
            envelope.succeed(resp, tagged.data if tagged else data, status=status, message=message)
            if one:
                _tag(req, resp, tagged)

        respond.operation = Operation(may, takes, asks, status, message, one)  # type: ignore[attr-defined]
        return respond

    return decorate


def operation_of(resource: object, req: Request) -> Operation | None:
    """The operation that a request is for; None when the resource does not know the method."""
    return declared(resource, req.method)


def declared(resource: object, method: str) -> Operation | None:
    """The operation behind a method of a resource."""
    responder = getattr(resource, f"on_{method.lower()}", None)
    return getattr(responder, "operation", None)


def _tag(req: Request, resp: Response, tagged: Tagged | None) -> None:
    tag = str(tagged.version) if tagged else hashlib.sha256(resp.data or b"").hexdigest()[:32]
    resp.etag = tag
    if any(known in ("*", tag) for known in req.if_none_match or []):
        resp.status = 304
        resp.delete_header("Content-Type")
        resp.data = None
