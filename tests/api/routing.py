"""Every route of the application with its declarations, for tests of all routes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import falcon

from api.app import create_app
from api.http.operation import Operation, RawOperation, declaration_of
from api.settings import WebSettings
from tests.makers import SECRETS

_STORES = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", "MEDIA_URL": "memory://media"}


@dataclass(frozen=True)
class Address:
    """A path with ids, its template, and the declarations of its methods; HEAD has that of GET."""

    path: str
    template: str
    methods: dict[str, Operation | RawOperation]


def app() -> falcon.App:  # type: ignore[type-arg]
    """The application without servers; a test's access tokens are valid in it."""
    return create_app(WebSettings.read({**SECRETS, **_STORES}))


def is_page(template: str) -> bool:
    """Whether a route belongs to the console, which is no part of the API."""
    return template in ("/", "/verify-email", "/reset-password") or f"{template}/".startswith("/console/")


def addresses() -> Iterator[Address]:
    """Every path of the application."""
    router = app()._router
    for template, responders in _templates(router._roots):
        path = re.sub(r"\{\w+:uuid\}", lambda _id: str(uuid4()), template)
        # Falcon answers the other methods itself.
        methods = [name for name, responder in responders.items() if _is_ours(responder)]
        found = router.find(path)
        assert found, path
        yield Address(path, template, {name: _declaration(found[0], name) for name in methods})


# Not `falcon.inspect`: it parses the source of every responder, for a second and a half in each process.
def _templates(nodes: list[Any], parent: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for node in nodes:
        path = f"{parent}/{node.raw_segment}"
        if node.resource is not None:
            yield path, node.method_map
        yield from _templates(node.children, path)


def _is_ours(responder: Any) -> bool:
    function = responder.func if isinstance(responder, partial) else responder
    return not str(function.__module__).startswith("falcon.")


def _declaration(resource: Any, method: str) -> Operation | RawOperation:
    declaration = declaration_of(resource, method)
    assert declaration, f"{method} of {resource} declares nothing"
    return declaration
