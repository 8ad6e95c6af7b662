"""The guards of the browser tests notice what they are there for."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from api.middleware.security_headers import SECURITY_HEADERS
from tests.browser import checks, driver

HOST = "http://console.test"
ANSWERS: dict[str, dict[str, Any]] = {
    "/missing": {"status": 404},
    "/fine.js": {"body": "'use strict'"},
    "/fails.js": {"body": "null.name"},
    "/warns.js": {"body": "console.warn('old')"},
}


def answer(route):
    found = ANSWERS.get(urlsplit(route.request.url).path)
    if found:
        route.fulfill(content_type="text/javascript", **found)
    else:
        route.abort("connectionrefused")


@pytest.fixture(scope="module")
def visitor(browser):
    """A visitor of pages that no server has."""
    with driver.visit(browser, HOST) as visitor:
        visitor.page.route("**/*", answer)
        yield visitor


def show(visitor, body: str) -> None:
    """Opens a page of this content."""
    document = f"<!doctype html><html lang=en><title>A page</title><main><h1>A page</h1>{body}</main>"
    headers = {
        "Content-Type": "text/html",
        "Content-Security-Policy": SECURITY_HEADERS["Content-Security-Policy"],
    }
    page = visitor.page
    page.unroute(f"{HOST}/")
    page.route(f"{HOST}/", lambda route: route.fulfill(body=document, headers=headers))
    page.goto("/", wait_until="networkidle")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>1</script>", "CSP: script-src-elem refused inline"),
        ("<a href='#' onfocus='1' autofocus>x</a>", "CSP: script-src-attr refused inline"),
        ("<img alt='' src='http://elsewhere.test/x.png'>", "request to another host: http://elsewhere.test/x.png"),
        ("<img alt='' src=/missing>", "console error: .*404"),
        ("<img alt='' src=/away>", "request failed: GET .*/away"),
        ("<script src=/fails.js></script>", "script: .*null"),
        ("<script src=/warns.js></script>", "console warning: old"),
    ],
)  # fmt: skip
def test_a_fault_of_a_page_is_noticed(visitor, body, fault):
    show(visitor, body)
    visitor.expect_fault(fault)
    visitor.faults.clear()


def test_a_page_without_faults_passes(visitor):
    show(visitor, "<a href='#x'>here</a><input type=hidden><script src=/fine.js></script>")
    assert visitor.faults == []
    assert checks.axe_violations(visitor.page) == []
    assert checks.unreachable(visitor.page) == []
    assert checks.too_wide(visitor.page) == []


@pytest.mark.parametrize(
    ("check", "body", "found"),
    [
        (checks.axe_violations, "<input>", "label: "),
        (checks.axe_violations, "<p style='color: #999; background: #fff'>pale</p>", "color-contrast: "),
        (checks.unreachable, "<a href='#' style='outline: none'>x</a>", "focus not shown: <a"),
        (checks.unreachable, "<div inert><button>x</button></div>", "not reached: <button"),
        (checks.too_wide, "<p style='width: 200vw'>wide</p>", "<p style"),
    ],
)  # fmt: skip
def test_what_keeps_somebody_out_is_noticed(visitor, check, body, found):
    show(visitor, body)
    assert check(visitor.page)[-1].startswith(found)


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_a_browser_the_tests_are_skipped_but_never_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(driver, "CHROMIUM", None)
    with pytest.raises(outcome, match="no browser"), driver.launched():
        pass
