"""The templates of the pages, the filters that all templates can use, and the static files."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from falcon import HTTPNotFound, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.console.client import Call
from api.http import etag
from api.http.operation import RawOperation
from db.core import VERSION, times

_DIRECTORY = Path(__file__).with_name("templates")
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


class _DataFirst(Environment):
    """Finds `page.items` in a JSON object before it finds the method of the dict."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


class Templates:
    """All templates, compiled once. Values are escaped; a name that a page did not pass is an error."""

    def __init__(self) -> None:
        self._environment = _DataFirst(
            loader=FileSystemLoader(_DIRECTORY),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(version=VERSION, now=times.now)
        self._environment.filters.update(
            instant=instant, ago=ago, curl=curl, words=words, with_query=with_query
        )

    def render(self, name: str, **values: Any) -> str:
        """Renders a template."""
        return self._environment.get_template(name).render(values)


def instant(value: str | None) -> str:
    """Returns a timestamp of the API as people read it: `2026-03-01 12:00:05 UTC`."""
    return f"{value[:10]} {value[11:19]} UTC" if value else "never"


def ago(value: str | None) -> str:
    """Returns how far a timestamp of the API is from now: `3 min ago`, `in 20 s`."""
    if not value:
        return "never"
    seconds = (times.now() - datetime.fromisoformat(value)).total_seconds()
    size, unit = scaled(abs(seconds))
    return f"{int(size)} {unit} ago" if seconds >= 0 else f"in {int(size) or 1} {unit}"


def scaled(seconds: float) -> tuple[float, str]:
    """Returns a duration in its largest unit, at most days: `(3.5, "min")`."""
    size, unit = seconds, "s"
    for length, larger in ((60, "min"), (60, "h"), (24, "d")):
        if size < length:
            break
        size, unit = size / length, larger
    return size, unit


def curl(call: Call, base: str) -> str:
    """Returns the shell command that sends a request to the API."""
    method = "" if call.method == "GET" else f"-X {call.method} "
    return f"curl -s {method}'{base}{call.path}' -H \"Authorization: Bearer $TOKEN\""


def words(value: str) -> str:
    """Returns a name of the API as people read it: `needs review` for `needsReview`."""
    spaced = "".join(f" {char.lower()}" if char.isupper() else char for char in value)
    return spaced.replace("_", " ").replace(".", " ").replace(":", " ").strip()


def with_query(path: str, *parts: Mapping[str, Any], **values: Any) -> str:
    """Returns the path with these values as its query. Empty values are left out; a later value wins."""
    merged: dict[str, Any] = {}
    for part in (*parts, values):
        merged |= part
    text = urlencode({name: value for name, value in merged.items() if value not in (None, "")})
    return f"{path}?{text}" if text else path


class Assets:
    """GET /console/assets/{name}: the style sheet, scripts and pictures."""

    @RawOperation(media="text/css", etag=True)
    def on_get(self, req: Request, resp: Response, name: str) -> None:
        """Sends a file. A browser keeps it, and asks each time whether it has changed."""
        if name not in _FILES:
            raise HTTPNotFound
        content, media = _FILES[name]
        etag.send(req, resp, content, media, "public", "no-cache")
