"""Every route of the application with its declarations, for tests of all routes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import falcon
from falcon.inspect import inspect_routes

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
    router = app()
    for route in inspect_routes(router):
        path = re.sub(r"\{\w+:uuid\}", lambda _id: str(uuid4()), route.path)
        methods = [method.method for method in route.methods if not method.internal]
        found = router._router.find(path)
        assert found, path
        yield Address(path, route.path, {name: _declaration(found[0], name) for name in methods})


def _declaration(resource: Any, method: str) -> Operation | RawOperation:
    declaration = declaration_of(resource, method)
    assert declaration, f"{method} of {resource} declares nothing"
    return declaration
