"""The routes as they are routed: what a test of all of them walks along."""

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
    """An address with ids in it, its template, and what its methods say of themselves; HEAD is GET's."""

    path: str
    template: str
    methods: dict[str, Operation | RawOperation]


def app() -> falcon.App:  # type: ignore[type-arg]
    """The application as it can be made before there are servers; the token of a test is good there too."""
    return create_app(WebSettings.read({**SECRETS, **_STORES}))


def addresses() -> Iterator[Address]:
    """All there are."""
    router = app()
    for route in inspect_routes(router):
        path = re.sub(r"\{\w+:uuid\}", lambda _id: str(uuid4()), route.path)
        methods = [told.method for told in route.methods if not told.internal]
        found = router._router.find(path)
        assert found, path
        yield Address(path, route.path, {name: _told(found[0], name) for name in methods})


def _told(resource: Any, method: str) -> Operation | RawOperation:
    told = declaration_of(resource, method)
    assert told, f"{method} of {resource} tells nothing"
    return told
