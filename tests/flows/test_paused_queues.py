"""An operator pauses queues of the running stack: their jobs wait, and all are done when they are resumed."""

from collections.abc import Iterator

import pytest

from db.demo_users import DEMO_PASSWORD
from tests.flows.conftest import Customer, Stack
from tests.makers import until

# How fast a pause is in force in every process, in seconds.
IN_FORCE_S = 2.0


class Admin:
    def __init__(self, stack: Stack) -> None:
        body = {"email": "admin@example.com", "password": DEMO_PASSWORD}
        signed_in = stack.http.post("/api/auth/login", json=body).raise_for_status().json()["data"]
        self.stack, self.headers = stack, {"Authorization": f"Bearer {signed_in['accessToken']}"}

    def pause(self, *queues: str) -> None:
        """Pauses these queues and resumes all others."""
        body = {"queues.paused": queues}
        self.stack.http.put("/api/admin/config", json=body, headers=self.headers).raise_for_status()


@pytest.fixture
def admin(stack: Stack) -> Iterator[Admin]:
    admin = Admin(stack)
    yield admin
    admin.pause()


def jobs_of(stack: Stack, id: str) -> list[tuple[str, int]]:
    """The jobs of a payment that wait, with the attempts that were counted."""
    query = "SELECT name, attempts FROM journal.jobs WHERE args ->> 'payment_id' = %s"
    return [(row["name"], row["attempts"]) for row in stack.rows(query, id)]


@pytest.mark.parametrize(("queue", "job"), [("payments", "payments.begin"), ("psp", "payments.charge")])
def test_payments_wait_for_a_paused_queue_and_complete_when_it_is_resumed(
    stack: Stack, admin: Admin, queue: str, job: str
):
    customer = stack.customer()
    admin.pause(queue)

    def payments_that_wait() -> list[str] | None:
        """Two payments with this job and no attempt; None where it was only slow, and not paused yet."""
        waiting = until(lambda: payment_that_stays(stack, customer, job))
        # Redis was flushed by the test before: no process is missed for long.
        until(lambda: stack.health() == "ok")
        # The relay sends nothing, though Redis forgets the message.
        stack.flush()
        overdue = "UPDATE journal.jobs SET due_at = due_at - interval '1 minute' WHERE name = %s RETURNING id"
        stack.rows(overdue, job)
        later = customer.pay()
        until(lambda: (job, 0) in jobs_of(stack, later) or customer.status(later) == "completed")
        both = [waiting, later]
        return both if all(jobs_of(stack, id) == [(job, 0)] for id in both) else None

    both = until(payments_that_wait)
    admin.pause()
    assert customer.settled(both) == ["completed", "completed"]


def payment_that_stays(stack: Stack, customer: Customer, job: str) -> str | None:
    """Makes a payment; its id if this job of it waits longer than a worker that is not paused would need."""
    id = customer.pay()
    waits = (
        "SELECT name FROM journal.jobs WHERE args ->> 'payment_id' = %s"
        f" AND created_at < clock_timestamp() - interval '{IN_FORCE_S} s'"
    )
    # The pause may begin when the payment has this job behind it.
    until(lambda: stack.rows(waits, id) or customer.status(id) == "completed")
    return id if {"name": job} in stack.rows(waits, id) else None
