"""A stack of `make run` is broken in a browser, and every payment ends before the eyes of its user."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import checks
from tests.browser.driver import VIEWPORT, Visit, visit
from tests.browser.test_pages import PHONE, PICTURES, keep
from tests.flows.conftest import START_S
from tests.makers import until
from tests.workers.dev.conftest import SETTINGS
from workers.dev.servers import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TRIES, TRY_MS = 3, 20_000


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[str]:
    """The launcher with stores of its own; the address of its web process."""
    data, port = tmp_path_factory.mktemp("broken"), free_port()
    environ = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environ |= {"DATA_DIR": str(data), "PORT": str(port)}
    launcher = subprocess.Popen(
        [sys.executable, "-m", "workers.dev"],
        cwd=root,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: (data / "stack.env").exists() or launcher.poll() is not None, START_S)
        assert launcher.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        launcher.send_signal(signal.SIGTERM)
        launcher.wait(120)


@pytest.fixture(scope="module")
def signed_in_admin(browser: "Browser", base_url: str) -> Iterator[Visit]:
    with visit(browser, base_url) as admin:
        page = admin.open("/console/sign-in?next=/console/break-it")
        page.get_by_role("button", name="Ada Admin").click()
        page.get_by_role("heading", name="Break it").wait_for()
        yield admin


@pytest.fixture
def admin(signed_in_admin: Visit) -> Iterator[Visit]:
    """The administrator, in the light, at a desk; the test fails if anything went wrong there."""
    signed_in_admin.page.emulate_media(color_scheme="light")
    signed_in_admin.page.set_viewport_size(VIEWPORT)
    yield signed_in_admin
    signed_in_admin.check()


def test_every_payment_ends_though_every_worker_is_killed_or_frozen(admin: Visit) -> None:
    page = admin.open("/console/break-it")
    page.get_by_role("button", name="Send 50 and break everything").click()
    # First what is there for ten seconds only.
    page.locator(".badge.frozen").first.wait_for()
    page.locator(".dot").nth(49).wait_for()
    page.get_by_text("All 50 payments have ended").wait_for(timeout=300_000)
    tiles = page.locator("#run .tile").all_inner_texts()
    assert [tile.split()[0] for tile in tiles] == ["50/50", "43", "7", "43", "0", "0"]
    page.get_by_role("button", name="Check now").click()
    page.get_by_text("The invariants are being checked.").wait_for()
    page.wait_for_function("document.querySelectorAll('#invariants .lamp:not(.good)').length === 0")
    assert page.locator("#log li").count() == 8
    page.wait_for_function("document.querySelectorAll('#log li.due').length === 0")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert checks.axe_violations(page) == []
        if PICTURES:
            keep(page, Path(PICTURES) / f"break-it-{scheme}.png")
    assert checks.unreachable(page) == []
    page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    assert checks.too_wide(page) == []


def test_a_dead_job_is_retried_without_a_shell(admin: Visit) -> None:
    from playwright.sync_api import TimeoutError  # noqa: PLC0415

    # A worker that took the job at that moment ends it all the same; then another one has to die.
    for _ in range(TRIES - 1):
        try:
            payment = retry_a_dead_job(admin.open("/console/break-it"))
            break
        except TimeoutError:
            # Where it ended before the button was pressed.
            admin.forget_faults("status of 409")
    else:
        payment = retry_a_dead_job(admin.open("/console/break-it"))
    admin.page.goto(payment)
    admin.page.locator("#head .badge.completed").wait_for()


def retry_a_dead_job(page: "Page") -> str:
    """Lets a job die and retries it from its list; returns the address of its payment."""
    page.get_by_role("button", name="Let a job die").click()
    page.get_by_text("A job is dead").wait_for()
    dead = page.get_by_role("link", name=re.compile(r"^\d+ dead jobs?$"))
    dead.wait_for(timeout=TRY_MS)
    assert checks.axe_violations(page) == []
    dead.click(timeout=TRY_MS)
    page.locator("#listed a[aria-label^=Payment]").first.click(timeout=TRY_MS)
    page.wait_for_url("**/console/payments/*")
    payment = page.url
    page.go_back()
    page.get_by_role("button", name="Retry", exact=True).first.click(timeout=TRY_MS)
    page.locator("dialog").get_by_role("button", name="Retry").click(timeout=TRY_MS)
    page.get_by_text("The job is due now.").wait_for(timeout=TRY_MS)
    return payment


def test_the_page_outlives_its_stores(admin: Visit) -> None:
    page = admin.open("/console/break-it")
    page.get_by_role("button", name="Kill postgres").click()
    page.locator("#log li", has_text="postgres").get_by_text("started again").wait_for(timeout=300_000)
    # What the button has said stays where PostgreSQL was back before the page asked again.
    page.locator("#connection.warn:visible").wait_for(state="hidden", timeout=300_000)
    admin.forget_faults("status of 503")
