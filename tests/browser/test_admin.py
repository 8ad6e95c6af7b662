"""What an administrator does in the console, and what others see of it."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.browser.driver import expect
from tests.browser.forms import registered, send
from tests.flows.conftest import Stack
from tests.makers import until


@pytest.fixture
def admin(visitor, signed_in):
    return visitor(storage_state=signed_in("ADMIN"))


def confirm(page, button: str) -> None:
    """Presses a button, and once more in the question that follows."""
    page.get_by_role("button", name=button, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def known_everywhere(stack: Stack, *, read_only: bool) -> None:
    """Waits until each process of the API has read the changed configuration: it answers while the others stand still."""
    master = stack.pid("web.1")
    processes = [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]

    def read() -> bool:
        try:
            # Of a new connection: it is accepted by the process that runs.
            answer = httpx.get(f"http://127.0.0.1:{stack.port}/api/maintenance", timeout=1)
        except httpx.TransportError:
            return False
        return bool(answer.raise_for_status().json()["data"]["readOnly"] is read_only)

    for process in processes:
        with ExitStack() as resumed:
            for other in set(processes) - {process}:
                os.kill(other, signal.SIGSTOP)
                resumed.callback(os.kill, other, signal.SIGCONT)
            until(read)


def test_a_suspended_user_is_signed_out_before_their_eyes(visitor, admin):
    me, mine = registered(visitor)
    page = admin.open(f"/console/users?q={mine}")
    page.get_by_role("link", name="Jo Miller").click()
    confirm(page, "Suspend")
    expect(page.get_by_role("button", name="Let them sign in again")).to_be_visible()
    expect(me.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_during_maintenance_nothing_is_paid(visitor, signed_in, admin, stack):
    customer = visitor(storage_state=signed_in("CUSTOMER"))
    page = admin.open("/console/configuration")
    confirm(page, "Begin maintenance")
    try:
        # The dialog closes before the server has answered.
        expect(page.get_by_role("button", name="End the maintenance")).to_be_visible()
        known_everywhere(stack, read_only=True)
        pay = customer.open("/console/pay")
        expect(pay.get_by_text("maintenance").first).to_be_visible()
        send(pay, "Pay", amount="3")
        expect(pay.get_by_role("alert")).to_be_visible()
        customer.expect_fault("status of 503")
    finally:
        send(page, "End the maintenance")
    expect(page.get_by_role("button", name="Begin maintenance")).to_be_visible()
    known_everywhere(stack, read_only=False)
