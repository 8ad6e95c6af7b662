"""Every fault of the PSP, with processes killed meanwhile: a payment ends as it should, charged once or not at all."""

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from tests.flows.conftest import Customer, Stack
from tests.makers import until

# What is simulated: how it ends, with which code, and what the PSP then has in its ledger.
ENDS: dict[str, tuple[str, str | None, list[str]]] = {
    "approve": ("completed", None, ["charged"]),
    "decline": ("failed", "card_declined", ["declined"]),
    "decline:expired_card": ("failed", "expired_card", ["declined"]),
    "slow": ("completed", None, ["charged"]),
    "error": ("completed", None, ["charged"]),
    "outage": ("failed", "provider_unavailable", []),
    "timeout": ("completed", None, ["charged"]),
    "duplicate": ("completed", None, ["charged"]),
    "late": ("completed", None, ["charged"]),
}
STEPS = {"completed": ["create", "begin", "complete"], "failed": ["create", "begin", "fail"]}


def payments(stack: Stack, ids: list[str]) -> dict[str, dict[str, Any]]:
    """These payments, with their steps and what the PSP has of them."""
    rows = stack.rows(
        "SELECT id::text, status, failure_code,"
        " (SELECT string_agg(reason, '; ') FROM payments.payment_reviews r"
        "   WHERE r.payment_id = p.id AND r.resolved_at IS NULL) AS review,"
        " ARRAY(SELECT outcome::text FROM psp.charges c WHERE c.payment_id = p.id) AS charges,"
        " ARRAY(SELECT transaction_type::text FROM payments.payment_transactions t"
        "   WHERE t.payment_id = p.id ORDER BY t.created_at) AS steps"
        " FROM payments.payments p WHERE id = ANY(%s::uuid[])",
        ids,
    )
    return {row["id"]: row for row in rows}


def settled(stack: Stack, ids: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Waits until all of these are final; what they are then."""
    query = (
        "SELECT count(*) AS n FROM payments.payments WHERE id = ANY(%s::uuid[])"
        " AND status IN ('pending', 'processing')"
    )
    until(lambda: stack.rows(query, ids)[0]["n"] == 0, seconds)
    return payments(stack, ids)


def call_outcomes(stack: Stack, ids: list[str], operation: str = "charge") -> list[str | None]:
    """The outcomes of the PSP calls for these payments; None as long as a call is under way, or died."""
    query = "SELECT outcome FROM payments.psp_attempts WHERE payment_id = ANY(%s::uuid[]) AND operation = %s"
    return [row["outcome"] for row in stack.rows(query, ids, operation)]


@pytest.fixture
def dark(stack: Stack) -> Iterator[str]:
    """A payment of which the PSP says nothing, until somebody there books it: other tests wait for nobody."""
    id = stack.customer().pay(simulate="blackout")
    yield id
    stack.rows(
        "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome)"
        " SELECT id::text, id, amount, currency, 'charged' FROM payments.payments WHERE id = %s RETURNING 1",
        id,
    )
    # Not in half a minute, but now.
    stack.rows(
        "UPDATE payments.payments_in_progress SET reconcile_at = now() WHERE payment_id = %s RETURNING 1", id
    )
    [ended] = settled(stack, [id], 240).values()
    assert (ended["status"], ended["review"], ended["charges"]) == ("completed", None, ["charged"])


def test_every_fault_of_the_psp_ends_as_it_should_though_processes_are_killed(stack: Stack, dark: str):
    customer = stack.customer()
    words = [*ENDS] * 2
    random.shuffle(words)
    made = {customer.pay(simulate=word): word for word in words}

    def those(word: str) -> list[str]:
        return [id for id, simulated in made.items() if simulated == word]

    # Under way: the next call for each of them asks first.
    until(lambda: all(call_outcomes(stack, [id]) for id in those("late")))
    # Charged, and the answer is still on its way.
    until(lambda: any(payment["charges"] for payment in payments(stack, those("slow")).values()))
    stack.kill("psp.1")
    # Eight seconds have not passed, unless the machine is very busy.
    is_too_late = any(payment["charges"] for payment in payments(stack, those("late")).values())
    stack.expire_leases(list(made))
    # Its outcome is unknown, and it will be tried again.
    until(lambda: "unavailable" in call_outcomes(stack, those("error")))
    stack.kill("payments.1")
    # Given a few of them.
    until(lambda: call_outcomes(stack, those("outage")).count("unavailable") >= 4)
    stack.kill("psp.1")
    stack.kill("payments.1")
    stack.expire_leases(list(made))

    ended = settled(stack, list(made), 240)

    for id, word in made.items():
        status, code, booked = ENDS[word]
        found = ended[id]
        assert (word, found["status"], found["failure_code"]) == (word, status, code)
        assert (word, found["charges"], found["steps"]) == (word, booked, STEPS[status])
        assert (word, found["review"]) == (word, None)
    # The PSP was asked about the late ones before they were charged.
    assert is_too_late or set(call_outcomes(stack, those("late"), "find")) >= {"not_found"}
    until(lambda: payments(stack, [dark])[dark]["review"])
    assert payments(stack, [dark])[dark] == {
        "id": dark,
        "status": "processing",
        "failure_code": None,
        "review": "the PSP does not answer",
        "charges": [],
        "steps": ["create", "begin"],
    }


def administrator(stack: Stack) -> Customer:
    body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery", "name": "Ada"}
    data = stack.http.post("/api/auth/register", json=body).raise_for_status().json()["data"]
    stack.rows("UPDATE auth.users SET role = 'ADMIN' WHERE id = %s RETURNING 1", data["user"]["id"])
    return Customer(stack, {"Authorization": f"Bearer {data['accessToken']}"})


@contextmanager
def stumbling(stack: Stack, name: str) -> Iterator[None]:
    """A process that stops for moments, as on a busy machine, while what it is to do piles up in a Redis that
    is flushed now and then: so jobs are not always done in the order in which they were enqueued."""
    over = threading.Event()

    def stumble() -> None:
        while not over.is_set():
            stack.pause(name)
            try:
                over.wait(random.uniform(0, 0.1))
                if random.random() < 0.5:
                    stack.flush()
            finally:
                stack.resume(name)
            over.wait(random.uniform(0, 0.1))

    with ThreadPoolExecutor(1) as pool:
        stumbles = pool.submit(stumble)
        try:
            yield
        finally:
            over.set()
    stumbles.result()


def test_a_cancellation_races_the_charge_and_one_of_them_wins(stack: Stack):
    boss = administrator(stack)

    def race(customer: Customer) -> list[tuple[str, int]]:
        answers = []
        for _ in range(24):
            id = customer.pay()
            # Nothing is waited for here: it is the moment of the race, and every moment has its turn.
            time.sleep(random.uniform(0, 0.03))
            answer = stack.http.delete(f"/api/payments/{id}", headers=boss.headers)
            answers.append((id, answer.status_code))
        return answers

    def cancel_first() -> tuple[str, int]:
        """Cancels a payment while its begin job is locked, as if another worker had just claimed it."""
        customer = stack.customer()
        lock = "SELECT FROM journal.jobs WHERE args ->> 'payment_id' = %s FOR UPDATE"
        with closing(psycopg2.connect(stack.postgres.url)) as connection, connection.cursor() as cursor:
            stack.pause("payments.1")
            try:
                id = customer.pay()
                cursor.execute(lock, (id,))
            finally:
                stack.resume("payments.1")
            answer = stack.http.delete(f"/api/payments/{id}", headers=boss.headers)
            settled(stack, [id], 240)
        return id, answer.status_code

    with stumbling(stack, "payments.1"), ThreadPoolExecutor(5) as pool:
        races = pool.map(race, [stack.customer() for _ in range(5)])
        answers = dict(chain.from_iterable(races))
    assert len(answers) == 120
    assert set(answers.values()) <= {202, 409}
    # On a busy machine all of these races can end alike.
    answers |= dict([cancel_first()])

    ended = settled(stack, list(answers), 240)

    for id, payment in ended.items():
        assert (payment["status"], payment["charges"], payment["steps"]) in (
            ("cancelled", [], ["create", "cancel"]),
            ("completed", ["charged"], ["create", "begin", "complete"]),
        )
        assert payment["status"] == "completed" or answers[id] == 202
    fell = Counter((payment["status"], answers[id]) for id, payment in ended.items())
    sys.stdout.write(f"{dict(fell)}\n")
    assert {status for status, _ in fell} == {"cancelled", "completed"}, fell

    # A cancellation that was accepted and then refused is in the audit log.
    refused = (
        "SELECT count(*) AS n FROM admin.audit_logs"
        " WHERE action = 'payments.transition.refused' AND resource_id = ANY(%s::uuid[])"
    )
    until(lambda: stack.rows(refused, list(answers))[0]["n"] == fell["completed", 202])
