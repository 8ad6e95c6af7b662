"""The routes of the OpenAPI document: JSON for programs, and a page for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import falcon
from falcon import Request, Response
from pydantic_core import to_json

from api.http.etag import of_content, tag
from api.http.operation import RawOperation
from api.openapi.document import document
from api.openapi.viewer import render


@dataclass(frozen=True)
class _File:
    content: bytes
    media: str
    etag: str


class Document:
    """The OpenAPI document of a route table as JSON and as HTML, written once: it takes most of a second."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        self._files: tuple[_File, _File] | None = None

    def write(self) -> tuple[_File, _File]:
        """The JSON and the HTML, written by the first call."""
        if self._files is None:
            written = document(self._table)
            self._files = (
                _file(to_json(written), falcon.MEDIA_JSON),
                _file(render(written).encode(), "text/html; charset=utf-8"),
            )
        return self._files


class OpenApi:
    """GET /api/openapi.json."""

    def __init__(self, document: Document) -> None:
        self._document = document

    @RawOperation(name="getOpenApi", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get this OpenAPI document."""
        json, _html = self._document.write()
        _send(req, resp, json)


class Docs:
    """GET /api/docs."""

    def __init__(self, document: Document) -> None:
        self._document = document

    @RawOperation(name="getDocs", media="text/html", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get this document as a page.

        The page has no script and loads nothing from other servers.
        """
        _json, html = self._document.write()
        _send(req, resp, html)


def _file(content: bytes, media: str) -> _File:
    return _File(content, media, of_content(content))


def _send(req: Request, resp: Response, file: _File) -> None:
    resp.content_type = file.media
    # Caches keep it, and revalidate it each time.
    resp.cache_control = ["public", "no-cache"]
    resp.data = file.content
    tag(req, resp, file.etag)
