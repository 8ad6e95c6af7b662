"""The templates of the console's pages, and what they can use beside the values of a page."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.console.client import Call
from db.core import VERSION, times

_DIRECTORY = Path(__file__).with_name("templates")


class _DataFirst(Environment):
    """Finds `page.items` in a JSON object before it finds the method of the dict."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


class Templates:
    """All templates, compiled once. Values are escaped; a name that a page did not pass is an error."""

    def __init__(self, **shared: Any) -> None:
        self._environment = _DataFirst(
            loader=FileSystemLoader(_DIRECTORY),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(shared, version=VERSION, now=times.now)
        self._environment.filters.update(
            instant=instant, ago=ago, curl=curl, words=words, with_query=with_query
        )

    def render(self, name: str, **values: Any) -> str:
        """Renders a template."""
        return self._environment.get_template(name).render(values)


def instant(value: str | None) -> str:
    """A timestamp of the API for people: `2026-03-01 12:00:05 UTC`."""
    return f"{value[:10]} {value[11:19]} UTC" if value else "never"


def ago(value: str | None) -> str:
    """How long ago a timestamp of the API is, or in how much time it comes: `3 min ago`, `in 20 s`."""
    if not value:
        return "never"
    seconds = (times.now() - datetime.fromisoformat(value)).total_seconds()
    size, unit = abs(seconds), "s"
    for length, larger in ((60, "min"), (60, "h"), (24, "d")):
        if size < length:
            break
        size, unit = size / length, larger
    return f"{int(size)} {unit} ago" if seconds >= 0 else f"in {int(size) or 1} {unit}"


def curl(call: Call, base: str) -> str:
    """The shell command that sends a request to the API."""
    method = "" if call.method == "GET" else f"-X {call.method} "
    return f"curl -s {method}'{base}{call.path}' -H \"Authorization: Bearer $TOKEN\""


def words(value: str) -> str:
    """A name of the API for people: `needsReview` becomes `needs review`."""
    spaced = "".join(f" {char.lower()}" if char.isupper() else char for char in value)
    return spaced.replace("_", " ").replace(".", " ").replace(":", " ").strip()


def with_query(path: str, *parts: Mapping[str, Any], **values: Any) -> str:
    """A path with a query of all these values, without those that are empty; a later value replaces one."""
    merged: dict[str, Any] = {}
    for part in (*parts, values):
        merged |= part
    text = urlencode({name: value for name, value in merged.items() if value not in (None, "")})
    return f"{path}?{text}" if text else path
