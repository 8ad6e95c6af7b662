"""Every page of the console, as each role that it is for: nothing goes wrong in it, and nobody is kept out."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser import checks
from tests.browser.driver import VIEWPORT, Visit, Visitors
from tests.browser.pages import screenshot_name, walk

PHONE = {"width": 320, "height": 640}
# Where `make screenshots` writes them.
PICTURES = os.environ.get("SCREENSHOTS")
MAX_HEIGHT, MAX_BYTES = 1600, 100_000
# Role by role.
PAGES = sorted(walk(), key=lambda page: page[1])


@pytest.fixture(scope="module")
def visitor_of(visitors: Visitors, signed_in: Callable[[str], Any]) -> Iterator[Callable[[str], Visit]]:
    """The visitor of a role, who goes from page to page: a new one for each would cost as much as a page does."""
    with ExitStack() as visits:

        @lru_cache(maxsize=1)
        def visitor(role: str) -> Visit:
            visits.close()
            return visits.enter_context(visitors.visit(signed_in(role) if role else None))

        yield visitor


@pytest.fixture
def visit(visitor_of: Callable[[str], Visit], role: str) -> Iterator[Visit]:
    """The visitor for one page; the test fails if anything went wrong in it, or the page keeps anything."""
    visit = visitor_of(role)
    visit.page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    visit.page.set_viewport_size(VIEWPORT)
    yield visit
    try:
        visit.check()
    finally:
        visit.check_kept()


@pytest.mark.parametrize(("path", "role"), PAGES, ids=lambda each: each or "visitor")
def test_a_page_is_for_everybody(visit, shown, path, role):
    page = visit.open(shown.path(path))
    problems = {"headings": page.locator("h1 ~ * h1, main:not(:has(h1))").all_inner_texts()}
    # Without one the browser asks for /favicon.ico, which there is not.
    problems["icon"] = [] if page.locator("link[rel=icon]").count() else ["none"]
    # In the dark only the colours are others.
    for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
        page.emulate_media(color_scheme=scheme)
        problems[f"axe, {scheme}"] = checks.axe_violations(page, *rules)
        if PICTURES and (name := screenshot_name(path, role)):
            keep(page, Path(PICTURES) / f"{name}-{scheme}.png")
    problems["not reached by the keyboard"] = checks.unreachable(page)
    problems["skip link"] = checks.skip_link_faults(page)
    page.set_viewport_size(PHONE)
    problems["too wide for a phone"] = checks.too_wide(page)
    report = [f"{what}: {each}" for what, found in problems.items() for each in found]
    assert not report, "\n".join(report)


def keep(page, path: Path) -> None:
    """Writes a picture of the page, small enough for a repository."""
    page.evaluate("() => { document.activeElement?.blur(); scrollTo(0, 0); }")
    height = min(page.evaluate("() => document.documentElement.scrollHeight"), MAX_HEIGHT)
    shot = page.screenshot(
        full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": height}, animations="disabled"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    for colors in (128, 32, 8):
        picture.quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < MAX_BYTES:
            break
