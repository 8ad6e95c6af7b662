"""What an administrator does in the console, and what others see of it."""

import pytest

from tests.browser.driver import expect
from tests.browser.forms import registered, send, watched


@pytest.fixture
def admin(visitor, signed_in):
    return visitor(storage_state=signed_in("ADMIN"))


def confirm(page, button: str) -> None:
    """Presses a button, and once more in the question that follows."""
    page.get_by_role("button", name=button, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_suspended_user_is_signed_out_before_their_eyes(visitor, admin):
    me, mine = registered(visitor)
    page = admin.open(f"/console/users?q={mine}")
    page.get_by_role("link", name="Jo Miller").click()
    confirm(page, "Suspend")
    expect(page.get_by_role("button", name="Let them sign in again")).to_be_visible()
    expect(me.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_during_maintenance_nothing_is_paid(visitor, signed_in, admin):
    customer = visitor(storage_state=signed_in("CUSTOMER"))
    page = admin.open("/console/configuration")
    confirm(page, "Begin maintenance")
    try:
        # The dialog closes before the server has answered.
        expect(page.get_by_role("button", name="End the maintenance")).to_be_visible()
        pay = customer.open("/console/pay")
        expect(pay.get_by_text("maintenance").first).to_be_visible()
        send(pay, "Pay", amount="3")
        expect(pay.get_by_role("alert")).to_be_visible()
        customer.expect_fault("status of 503")
    finally:
        send(page, "End the maintenance")
    expect(page.get_by_role("button", name="Begin maintenance")).to_be_visible()


def test_fifty_payments_end_while_the_stack_is_broken(admin):
    page = admin.open("/console/break-it")
    with watched(page):
        send(page, "Send 50 payments")
        for process in ("payments.1", "psp.1"):
            send(page, f"Kill {process}")
        send(page, "Flush Redis")
        expect(page.get_by_text("All 50 payments have ended")).to_be_visible(timeout=120_000)
        expect(page.locator("#run .tile.bad")).to_have_count(0)


def test_a_dead_job_is_retried_without_a_shell(admin, shown):
    page = admin.open(f"/console/jobs/{shown.examples['job_id']}")
    expect(page.locator("#content .badge.dead").first).to_be_visible()
    admin.open("/console/jobs?state=dead")
    confirm(page, "Retry")
    expect(page.get_by_text("SMTPServerDisconnected")).to_have_count(0)
