"""Where the document is read: by programs as JSON, by people as a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import falcon
from falcon import Request, Response
from pydantic_core import to_json

from api.http.etag import of_content, tag
from api.http.operation import raw_operation
from api.openapi.document import document
from api.openapi.viewer import render


@dataclass(frozen=True)
class _File:
    content: bytes
    media: str
    etag: str


class Document:
    """The document of a route table, for programs and for people. Drawing it takes most of a second."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        self._drawn: tuple[_File, _File] | None = None

    def draw(self) -> tuple[_File, _File]:
        """The document as JSON and as HTML, drawn at the first call."""
        if self._drawn is None:
            drawn = document(self._table)
            self._drawn = (
                _file(to_json(drawn), falcon.MEDIA_JSON),
                _file(render(drawn).encode(), "text/html; charset=utf-8"),
            )
        return self._drawn


class OpenApi:
    """GET /api/openapi.json"""

    def __init__(self, document: Document) -> None:
        self._document = document

    @raw_operation(name="getOpenApi", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """This document."""
        json, _ = self._document.draw()
        _answer(req, resp, json)


class Docs:
    """GET /api/docs"""

    def __init__(self, document: Document) -> None:
        self._document = document

    @raw_operation(name="getDocs", media="text/html", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """This document as a page to read, without a script and without a word from elsewhere."""
        _, html = self._document.draw()
        _answer(req, resp, html)


def _file(content: bytes, media: str) -> _File:
    return _File(content, media, of_content(content))


def _answer(req: Request, resp: Response, file: _File) -> None:
    resp.content_type = file.media
    # Kept, and asked every time whether it still holds.
    resp.cache_control = ["public", "no-cache"]
    resp.data = file.content
    tag(req, resp, file.etag)
