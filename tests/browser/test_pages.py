"""Every page of the console, as each role that it is for: nothing goes wrong in it, and nobody is kept out."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.browser import checks
from tests.browser.pages import screenshot_name, walk

PHONE = {"width": 320, "height": 640}
# Where `make screenshots` writes them.
PICTURES = os.environ.get("SCREENSHOTS")
MAX_HEIGHT, MAX_BYTES = 1600, 100_000


@pytest.mark.parametrize(("path", "role"), list(walk()), ids=lambda each: each or "visitor")
def test_a_page_is_for_everybody(visitor, signed_in, shown, path, role):
    visit = visitor(storage_state=signed_in(role)) if role else visitor()
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
