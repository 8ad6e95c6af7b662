"""Where the document is read: by programs as JSON, by people as a page."""

from collections.abc import Mapping
from functools import cached_property
from threading import Lock
from typing import Any

import falcon
from falcon import Request, Response
from pydantic_core import to_json

from api.gateway.etag import tag
from api.gateway.operation import page
from api.openapi.document import document
from api.openapi.page import render


class Document:
    """The document of a route table; drawn at the first question, which is not the start of a worker."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        # Drawing takes long, and from Python 3.12 on cached_property lets every thread draw.
        self._drawing = Lock()

    @property
    def json(self) -> bytes:
        """As programs read it."""
        return self._drawn[0]

    @property
    def html(self) -> bytes:
        """As people read it."""
        return self._drawn[1]

    @property
    def _drawn(self) -> tuple[bytes, bytes]:
        with self._drawing:
            return self._written

    @cached_property
    def _written(self) -> tuple[bytes, bytes]:
        drawn = document(self._table)
        return to_json(drawn), render(drawn).encode()


class OpenApi:
    """GET /api/openapi.json"""

    def __init__(self, document: Document) -> None:
        self._document = document

    @page(name="getOpenApi", one=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """This document."""
        _answer(req, resp, self._document.json, falcon.MEDIA_JSON)


class Docs:
    """GET /api/docs"""

    def __init__(self, document: Document) -> None:
        self._document = document

    @page(name="getDocs", media="text/html", one=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """This document as a page to read, without a script and without a word from elsewhere."""
        _answer(req, resp, self._document.html, "text/html; charset=utf-8")


def _answer(req: Request, resp: Response, content: bytes, media: str) -> None:
    resp.content_type = media
    # Kept, and asked every time whether it still holds.
    resp.cache_control = ["public", "no-cache"]
    resp.data = content
    tag(req, resp)
