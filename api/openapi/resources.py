"""The routes of the OpenAPI document: JSON for programs, and a page for people."""

from collections.abc import Mapping
from typing import Any

import falcon
from falcon import Request, Response
from pydantic_core import to_json

from api.http.etag import tag
from api.http.operation import RawOperation
from api.openapi.document import document
from api.openapi.viewer import render


class Document:
    """The OpenAPI document of a route table as JSON and as HTML, written once: it takes most of a second."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        self._written: tuple[bytes, bytes] | None = None

    def write(self) -> tuple[bytes, bytes]:
        """The JSON and the HTML, written by the first call."""
        if self._written is None:
            written = document(self._table)
            self._written = to_json(written), render(written).encode()
        return self._written


class OpenApi:
    """GET /api/openapi.json."""

    def __init__(self, document: Document) -> None:
        self._document = document

    @RawOperation(name="getOpenApi", etag=True)
    def on_get(self, req: Request, resp: Response) -> None:
        """Get this OpenAPI document."""
        json, _html = self._document.write()
        _send(req, resp, json, falcon.MEDIA_JSON)


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
        _send(req, resp, html, "text/html; charset=utf-8")


def _send(req: Request, resp: Response, content: bytes, media: str) -> None:
    resp.content_type = media
    # Caches keep it, and revalidate it each time.
    resp.cache_control = ["public", "no-cache"]
    resp.data = content
    tag(req, resp)
