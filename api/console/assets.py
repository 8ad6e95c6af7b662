"""GET /console/assets/{name}: the style sheet, scripts and pictures of the console."""

from pathlib import Path

from falcon import HTTPNotFound, Request, Response

from api.http import etag
from api.http.operation import RawOperation

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILES = {
    path.name: (path.read_bytes(), _TYPES[path.suffix])
    for path in Path(__file__).with_name("assets").iterdir()
    if path.suffix in _TYPES
}


class Assets:
    """GET /console/assets/{name}."""

    @RawOperation(media="text/css", etag=True)
    def on_get(self, req: Request, resp: Response, name: str) -> None:
        """Sends a file. A browser keeps it, and asks each time whether it has changed."""
        if name not in _FILES:
            raise HTTPNotFound
        content, media = _FILES[name]
        etag.send(req, resp, content, media, "public", "no-cache")
