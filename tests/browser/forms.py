"""What visitors do: fill in forms, and watch a page change without loading it again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.browser.driver import Visit, expect
from tests.makers import PASSWORD, address

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


def seen_again(page: "Page") -> None:
    """The visitor comes back to the tab: the page is brought up to date now, not after its seconds."""
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")


def registered(visitor: Callable[..., Visit]) -> tuple[Visit, str]:
    """A visitor who has opened an account just now, not in the browser, and is at the console; and their address."""
    me, mine = visitor(), address()
    account = {"name": "Jo Miller", "email": mine, "password": PASSWORD, "role": "CUSTOMER"}
    answer = me.context.request.post("/console/register", form={**account}, max_redirects=0)
    assert answer.status == 303, answer.text()
    expect(me.open("/console").get_by_role("heading", name="Hello, Jo")).to_be_visible()
    return me, mine
