"""An administrator repairs jobs without a shell, and takes the audit log home."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from db.users import Role
from tests.browser.driver import Visit
from tests.browser.forms import seen_again, watched
from tests.flows.conftest import Stack
from tests.makers import until

DEAD = """
    INSERT INTO journal.jobs (id, name, queue, args, attempts, sent_at, due_at, error, dead_at)
    VALUES (%s, 'mail.request_verification', 'mail', jsonb_build_object('user_id', gen_random_uuid()), 20, '-infinity',
        clock_timestamp(), %s, clock_timestamp()) RETURNING id
"""


def dead_job(stack: Stack, error: str) -> str:
    """A job that failed at every attempt."""
    id = str(uuid4())
    stack.rows(DEAD, id, error)
    return id


def exists(stack: Stack, id: str) -> bool:
    return bool(stack.rows("SELECT id FROM journal.jobs WHERE id = %s", id))


def test_a_dead_job_is_found_retried_and_another_one_dropped(
    visitor: Callable[..., Visit], signed_in: Callable[[str], object], stack: Stack
):
    page = visitor(storage_state=signed_in(Role.ADMIN)).open("/console/jobs")
    # It dies while somebody looks, and the page shows it by itself.
    with watched(page):
        retried, dropped = dead_job(stack, "the mail server slept"), dead_job(stack, "nobody wants this")
        row = page.locator("#dead tr", has_text="the mail server slept")
        row.wait_for()
    row.get_by_role("button", name="Retry").click()
    question = page.locator("dialog")
    question.get_by_text("again now?").wait_for()
    # The page is brought up to date meanwhile, and the question stays.
    stack.rows("UPDATE journal.jobs SET attempts = attempts + 1 WHERE id = %s RETURNING id", dropped)
    with page.expect_response(lambda answer: answer.url.endswith("/console/jobs")):
        seen_again(page)
    question.get_by_role("button", name="Retry").click()
    page.get_by_text("The job is due now.").wait_for()
    until(lambda: not exists(stack, retried))

    row = page.locator("#dead tr", has_text="nobody wants this")
    row.get_by_role("button", name="Drop").click()
    page.keyboard.press("Escape")
    assert exists(stack, dropped)
    row.get_by_role("button", name="Drop").click()
    question.get_by_role("button", name="Drop").click()
    page.get_by_text("The job is dropped.").wait_for()
    assert not exists(stack, dropped)


def test_a_queue_is_paused_and_resumed(
    visitor: Callable[..., Visit], signed_in: Callable[[str], object], stack: Stack
):
    page = visitor(storage_state=signed_in(Role.ADMIN)).open("/console/jobs")
    row = page.locator("#queues tr", has_text="housekeeping")
    row.get_by_role("button", name="Pause").click()
    page.locator("dialog").get_by_role("button", name="Pause").click()
    row.get_by_text("paused").wait_for()
    row.get_by_role("button", name="Resume").click()
    row.get_by_text("running").wait_for()


def test_the_audit_log_is_verified_exported_and_verified_outside(
    visitor: Callable[..., Visit], signed_in: Callable[[str], object], root: Path, tmp_path: Path
):
    page = visitor(storage_state=signed_in(Role.ADMIN)).open("/console/audit")
    page.get_by_role("button", name="Verify now").click()
    page.get_by_text("Intact.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Entries 1 to").click()
    export = tmp_path / download.value.suggested_filename
    download.value.save_as(export)
    command = [sys.executable, str(root / "docs/operations/verify_audit.py"), str(export)]
    assert "intact: " in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_focus_stays_where_it_is_while_a_page_is_brought_up_to_date(
    visitor: Callable[..., Visit], signed_in: Callable[[str], object], stack: Stack
):
    first = dead_job(stack, "the first one")
    page = visitor(storage_state=signed_in(Role.ADMIN)).open("/console/jobs")
    button = page.locator("#dead tr", has_text="the first one").get_by_role("button", name="Retry")
    button.focus()
    second = dead_job(stack, "the second one")
    seen_again(page)
    page.locator("#dead tr", has_text="the second one").wait_for()
    assert button.evaluate("button => document.activeElement === button")
    stack.rows("DELETE FROM journal.jobs WHERE id = ANY(%s::uuid[]) RETURNING id", [first, second])
