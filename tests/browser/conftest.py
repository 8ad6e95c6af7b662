"""A stack of their own for the tests in a browser, and visitors of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.driver import Visit, Visitors, launched, visit
from tests.browser.pages import Shown
from tests.flows.conftest import Stack, running_stack

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# Of no other tests: while Playwright runs, its event loop is the thread's, and none of them can run one.
@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("browser")) as stack:
        yield stack


@pytest.fixture(scope="package")
def visitors(browser: "Browser", stack: Stack) -> Visitors:
    return Visitors(browser, f"http://127.0.0.1:{stack.port}")


@pytest.fixture
def visitor(visitors: Visitors) -> Iterator[Callable[..., Visit]]:
    """Makes visitors, each in a browser of their own; the test fails if anything went wrong in any of them."""
    with ExitStack() as visits:

        def make(storage_state: Any = None, **special: Any) -> Visit:
            if special:
                new = visit(visitors.browser, visitors.base_url, storage_state=storage_state, **special)
            else:
                new = visitors.visit(storage_state)
            return visits.enter_context(new)

        yield make


@pytest.fixture(scope="package")
def shown(stack: Stack) -> Shown:
    return Shown(stack)


@pytest.fixture(scope="package")
def signed_in(stack: Stack) -> Callable[[str], Any]:
    """The cookies of a demo user's session, one for the whole run."""

    @cache
    def state(role: str) -> Any:
        url = f"http://127.0.0.1:{stack.port}/console/sign-in/demo"
        answer = httpx.post(url, data={"role": role})
        assert answer.status_code == 303, answer.text
        more = {"domain": "127.0.0.1", "path": "/console", "expires": -1, "httpOnly": True, "secure": False}
        cookies = [
            {"name": name, "value": value, "sameSite": "Lax", **more}
            for name, value in answer.cookies.items()
        ]
        return {"cookies": cookies, "origins": []}

    return state
