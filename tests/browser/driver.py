"""The system's browser, and a page whose every fault is kept: what the console must never show a visitor."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Half a small laptop: what most people have open beside something else.
VIEWPORT: Any = {"width": 1280, "height": 800}
PATIENCE_MS = 60_000
# The browser takes back what a page that it leaves was still fetching, such as its stream of events.
LEFT = "net::ERR_ABORTED"
# Of the console's origin, as the next page: otherwise the browser gives that one a new process, which costs more.
LEFT_AT = "/console/assets/paywright.svg"
# What a browser asks for at a place without a page, as LEFT_AT, at times when the next visitor has it already.
ICON_OF_NO_PAGE = "/favicon.ico"
# Each new context is a window to Chromium, and it prepares the suggestions of the address bar in two pages for each.
ADDRESS_BAR = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup")
# What Playwright disables: of several lists Chromium reads only the last one.
DISABLED_BY_PLAYWRIGHT = (
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades"),
    *("HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding"),
    *("ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints"),
    *("NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch"),
)
# How much is in the browser's storage, which is empty afterwards.
EMPTY_STORAGE = """() => {
    const kept = localStorage.length + sessionStorage.length;
    localStorage.clear();
    sessionStorage.clear();
    return kept;
}"""
KEEP_VIOLATIONS = """addEventListener("securitypolicyviolation", event =>
    reportViolation(`${event.effectiveDirective} refused ${event.blockedURI} in ${event.sourceFile}`))"""


def missing() -> str | None:
    """Returns what is missing for a test in a browser."""
    if not CHROMIUM:
        return "no browser: install chromium, chromium-browser or google-chrome"
    try:
        import playwright.sync_api  # noqa: F401, PLC0415
    except ImportError:
        return "no Playwright: install requirements-browser.lock, as `make test` does"
    return None


@contextmanager
def launched() -> Iterator["Browser"]:
    """Runs the system's browser; skips the test where there is none, and fails it where CI is set."""
    if reason := missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    arguments = [f"--disable-features={','.join((*DISABLED_BY_PLAYWRIGHT, *ADDRESS_BAR))}"]
    # Nobody sees the pages: without a process that emulates a graphics card, they take a fourteenth less time.
    arguments += ["--disable-gpu", "--in-process-gpu"]
    # Chromium's sandbox refuses to run as root.
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def expect(what: Any) -> Any:
    """Playwright's assertion about a page or a part of it, which waits until it holds."""
    from playwright.sync_api import expect as assertion  # noqa: PLC0415

    assertion.set_options(timeout=PATIENCE_MS)
    return assertion(what)


@dataclass
class Visit:
    """A browser of one visitor, with its own cookies, on one server; and what went wrong in it."""

    context: "BrowserContext"
    base_url: str
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        context = self.context
        context.set_default_timeout(PATIENCE_MS)
        context.expose_function("reportViolation", lambda text: self.faults.append(f"CSP: {text}"))
        context.add_init_script(KEEP_VIOLATIONS)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.faults.append(f"script: {error.error}"))
        context.on("request", self._on_request)
        context.on("requestfailed", self._on_failure)
        self.page: Page = context.new_page()

    def _on_console(self, message: "ConsoleMessage") -> None:
        url = str(message.location["url"])
        if message.type in ("error", "warning") and url != self.base_url + ICON_OF_NO_PAGE:
            self.faults.append(f"console {message.type}: {message.text} {url}".strip())

    def _on_request(self, request: "Request") -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and f"{url.scheme}://{url.netloc}" != self.base_url:
            self.faults.append(f"request to another host: {request.url}")

    def _on_failure(self, request: "Request") -> None:
        if request.failure != LEFT:
            self.faults.append(f"request failed: {request.method} {request.url}: {request.failure}")

    def open(self, path: str, *, status: int = 200) -> "Page":
        """Opens a path, waits until its content is there, and checks the status of the answer."""
        answer = self.page.goto(path, wait_until="load")
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}"
        if status >= 400:
            self.expect_fault(rf"status of {status}")
        return self.page

    def expect_fault(self, pattern: str) -> None:
        """Forgets the faults of this kind, which a test causes; there must be one."""
        assert self.forget_faults(pattern), f"no fault like {pattern!r} among {self.faults}"

    def forget_faults(self, pattern: str) -> list[str]:
        """Forgets the faults of this kind, which a test may cause; returns them."""
        expected = [fault for fault in self.faults if re.search(pattern, fault)]
        self.faults[:] = [fault for fault in self.faults if fault not in expected]
        return expected

    def check(self) -> None:
        """Fails if anything went wrong in this browser since the last check."""
        found = "\n".join(self.faults)
        self.faults.clear()
        assert not found, found

    def check_kept(self) -> None:
        """Fails if the console keeps more than cookies in this browser, or has opened another page."""
        kept = self.page.evaluate(EMPTY_STORAGE)
        others = [page for page in self.context.pages if page is not self.page]
        for page in others:
            page.close()
        assert (kept, others) == (0, [])

    def leave(self) -> None:
        """Makes the browser as good as new for the next visitor."""
        self.page.goto(LEFT_AT)
        self.check_kept()
        # Those of a test that failed before it took them back.
        self.context.set_extra_http_headers({})
        self.page.emulate_media(color_scheme="light", reduced_motion="reduce")
        self.page.set_viewport_size(VIEWPORT)
        self.context.clear_cookies()
        self.faults.clear()


def new_visit(browser: "Browser", base_url: str, **options: Any) -> Visit:
    """A visitor in a new browser, who wants nothing to move: it would cost a fifth of a processor."""
    always: Any = {"viewport": VIEWPORT, "locale": "en-GB", "timezone_id": "UTC", "reduced_motion": "reduce"}
    return Visit(browser.new_context(base_url=base_url, **always, **options), base_url)


@contextmanager
def visit(browser: "Browser", base_url: str, **options: Any) -> Iterator[Visit]:
    """A visitor in a new browser; fails at the end if anything went wrong in it."""
    visit = new_visit(browser, base_url, **options)
    try:
        yield visit
        visit.check()
    finally:
        visit.context.close()


@dataclass
class Visitors:
    """Visitors one after another in the same few browsers: a new one costs as much as all checks of a page."""

    browser: "Browser"
    base_url: str
    _free: list[Visit] = field(default_factory=list)

    @contextmanager
    def visit(self, storage_state: Any = None) -> Iterator[Visit]:
        """A visitor in a browser without other cookies; fails at the end if anything went wrong in it."""
        visit = self._free.pop() if self._free else new_visit(self.browser, self.base_url)
        try:
            if storage_state:
                visit.context.add_cookies(storage_state["cookies"])
            yield visit
            visit.check()
            visit.leave()
        except BaseException:
            visit.context.close()
            raise
        self._free.append(visit)
