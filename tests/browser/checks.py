"""What holds for every page: axe finds nothing, the keyboard reaches everything, and a phone's width is enough."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The next press of Tab begins at the top: without a focus it would go on from where the last one was.
TO_THE_TOP = """() => {
    const top = document.createElement("span");
    top.tabIndex = -1;
    document.body.prepend(top);
    top.focus();
    top.remove();
    scrollTo(0, 0);
}"""
# Watches which of the controls that are shown receive the focus, and whether one can see it. The keyboard reaches one
# of a group of radio buttons: the chosen one.
WATCH_FOCUS = """() => {
    const all = "a[href], button, input, select, textarea, summary, [tabindex]";
    window.controls = new Map([...document.querySelectorAll(all)]
        .filter((control) => control.tabIndex >= 0 && !control.disabled && control.type !== "hidden")
        .filter((control) => control.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }))
        .filter((control) => control.type !== "radio" || control.checked)
        .map((control) => [control, "not reached"]));
    addEventListener("focusin", ({ target }) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(target);
        const shown = outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
        if (window.controls.has(target)) window.controls.set(target, shown ? "reached" : "focus not shown");
    });
    return window.controls.size;
}"""
UNREACHED = """() => [...window.controls].filter(([, how]) => how !== "reached")
    .map(([control, how]) => `${how}: ${control.outerHTML.slice(0, 120)}`)"""
# What reaches beyond the window while nothing around it scrolls; the innermost come last.
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
    .map((element) => element.outerHTML.slice(0, 120)).slice(-5)"""


def axe_violations(page: "Page", *rules: str) -> list[str]:
    """Returns what axe finds wrong with the page as it is shown now, by these of its rules or by all."""
    from axe_playwright_python.base import AXE_FILE_PATH  # noqa: PLC0415

    # Evaluated by the browser itself: the page's policy refuses a script element.
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(Path(AXE_FILE_PATH).read_text(encoding="utf-8"))
    options = {"resultTypes": ["violations"], "preload": False, **({"runOnly": list(rules)} if rules else {})}
    found = page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{violation['id']}: {violation['help']}: {node['html'][:200]}: {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def unreachable(page: "Page") -> list[str]:
    """Returns the controls that pressing Tab through the page does not reach, or not visibly."""
    # A live page is to stay as it is from now on; an answer on its way may still change it.
    page.evaluate("() => { window.fetch = () => new Promise(() => {}); }")
    found = _tab_through(page)
    while found and page.evaluate(
        "() => [...window.controls.keys()].some((control) => !control.isConnected)"
    ):
        found = _tab_through(page)
    return found


def _tab_through(page: "Page") -> list[str]:
    # Up to twice as often as there are controls: Tab also stops at what scrolls.
    page.evaluate(TO_THE_TOP)
    controls = page.evaluate(WATCH_FOCUS)
    try:
        for pressed in range(2 * controls + 2):
            # Held down it repeats itself: to let it go each time would be half of all that is sent to the browser.
            page.keyboard.down("Tab")
            if pressed >= controls and page.evaluate("() => document.activeElement === document.body"):
                break
    finally:
        # The next visitor may get this browser.
        page.keyboard.up("Tab")
    found: list[str] = page.evaluate(UNREACHED)
    return found


def too_wide(page: "Page") -> list[str]:
    """Returns what makes the page scroll sideways."""
    found: list[str] = page.evaluate(TOO_WIDE)
    return found


def skip_link_faults(page: "Page") -> list[str]:
    """Returns what keeps the first press of Tab from leading to the content, past the navigation."""
    page.evaluate(TO_THE_TOP)
    page.keyboard.press("Tab")
    if not page.evaluate("() => document.activeElement.matches('.skip')"):
        return ["Tab does not lead to the skip link first"]
    page.keyboard.press("Enter")
    leads = page.evaluate("() => document.activeElement.id === 'content'")
    return [] if leads else ["it does not lead to the content"]
