"""The routes of the OpenAPI and AsyncAPI documents: JSON for programs, and Swagger UI for people."""

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import falcon
from falcon import Request, Response
from pydantic_core import to_json

from api.http import etag
from api.http.operation import RawOperation
from api.openapi import asyncapi
from api.openapi.document import document

_PAGE, _START = (Path(__file__).with_name(name) for name in ("docs.html", "docs.js"))
# The package is not imported: it would need Flask.
_SWAGGER_UI = Path(str(distribution("flask-swagger-ui").locate_file("flask_swagger_ui/dist")))
# Caches keep the files, and revalidate them each time.
_CACHE = ("public", "no-cache")


class Documents:
    """The documents of a route table, each written once: the larger one takes most of a second."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table

    @cached_property
    def open_api(self) -> bytes:
        """The OpenAPI document."""
        return to_json(document(self._table))

    @cached_property
    def _async_api(self) -> bytes:
        return to_json(asyncapi.document())

    @RawOperation(name="getOpenApi", etag=True)
    def get_open_api(self, req: Request, resp: Response) -> None:
        """Get this OpenAPI document."""
        etag.send(req, resp, self.open_api, falcon.MEDIA_JSON, *_CACHE)

    @RawOperation(name="getAsyncApi", etag=True)
    def get_async_api(self, req: Request, resp: Response) -> None:
        """Get the AsyncAPI document.

        It describes every event, on the Redis channel and in the stream.
        """
        etag.send(req, resp, self._async_api, falcon.MEDIA_JSON, *_CACHE)

    @RawOperation(name="getDocs", media="text/html", etag=True)
    def get_docs(self, req: Request, resp: Response) -> None:
        """Get this document as a page.

        The page is Swagger UI. It loads nothing from other servers.
        """
        style = (_SWAGGER_UI / "swagger-ui.css").read_bytes()
        page = _PAGE.read_bytes().replace(b"$style", style)
        etag.send(req, resp, page, "text/html; charset=utf-8", *_CACHE)

    @RawOperation(name="getDocsScript", media="text/javascript", etag=True)
    def get_docs_script(self, req: Request, resp: Response) -> None:
        """Get the script of the document's page."""
        script = (_SWAGGER_UI / "swagger-ui-bundle.js").read_bytes() + b"\n" + _START.read_bytes()
        etag.send(req, resp, script, "text/javascript; charset=utf-8", *_CACHE)
