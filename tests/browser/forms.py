"""What visitors do: fill in forms, and watch a page change without loading it again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def send(page: "Page", button: str, **fields: str) -> None:
    """Fills in fields by their names, and presses the button."""
    for name, value in fields.items():
        page.locator(f"[name={name}]").fill(value)
    page.get_by_role("button", name=button, exact=True).click()


@contextmanager
def watched(page: "Page") -> Iterator[None]:
    """Fails if the page is loaded anew meanwhile."""
    page.evaluate("() => { window.watched = true; }")
    yield
    assert page.evaluate("() => window.watched === true"), "the page was loaded anew"
