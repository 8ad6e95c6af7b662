"""A payment ends once and is charged once, whatever is killed on its way."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
import redis

from tests.flows.conftest import Stack
from tests.makers import until


def charges(stack: Stack, ids: list[str]) -> list[int]:
    """How often each of these was charged."""
    rows = stack.rows("SELECT payment_id::text FROM psp.charges WHERE payment_id = ANY(%s::uuid[])", ids)
    booked = [row["payment_id"] for row in rows]
    return [booked.count(id) for id in ids]


def events_of(stack: Stack, id: str) -> list[str]:
    """The types of the events about one payment, in their order, once every job is done and all are published."""
    until(lambda: stack.rows("SELECT count(*) AS n FROM journal.jobs")[0]["n"] == 0)
    until(stack.all_published)
    query = "SELECT type FROM admin.events WHERE data ->> 'id' = %s ORDER BY seq"
    return [row["type"].rpartition(":")[2] for row in stack.rows(query, id)]


@pytest.fixture
def pubsub(stack: Stack) -> Iterator[redis.client.PubSub]:
    with (
        redis.from_url(stack.valkey.url) as client,
        client.pubsub(ignore_subscribe_messages=True) as subscribed,
    ):
        yield subscribed


def test_a_payment_goes_through_all_processes(stack: Stack, pubsub: redis.client.PubSub):
    pubsub.subscribe("events")
    pubsub.get_message(timeout=5)
    customer = stack.customer()
    paid = customer.post(simulate="approve")
    id, declined = paid.json()["data"]["id"], customer.pay(simulate="decline:expired_card")

    assert customer.settled([id, declined]) == ["completed", "failed"]

    assert charges(stack, [id, declined]) == [1, 1]
    assert events_of(stack, id) == ["created", "updated", "updated", "completed"]
    assert events_of(stack, declined) == ["created", "updated", "updated", "failed"]
    messages: list[dict[str, Any]] = []
    ends = {(id, "payments:payment:completed"), (declined, "payments:payment:failed")}
    while not ends <= {(message["data"].get("id"), message["type"]) for message in messages}:
        message = pubsub.get_message(timeout=10)
        assert message is not None
        messages.append(json.loads(message["data"]))
    assert [message["seq"] for message in messages] == list(
        range(messages[0]["seq"], messages[0]["seq"] + len(messages))
    )
    # Others may be about what a test before this one did.
    about_paid = [message for message in messages if message["data"].get("id") == id]
    assert {message["requestId"] for message in about_paid} == {paid.headers["X-Request-ID"]}
    assert {message["traceparent"] for message in about_paid} == {paid.headers["traceparent"]}
    actions = stack.rows("SELECT count(*) AS n FROM admin.audit_logs WHERE resource_id = %s", id)
    assert actions[0]["n"] == 3


def test_a_payment_whose_worker_is_killed_in_mid_charge_is_charged_once(stack: Stack):
    customer = stack.customer()

    def killed_in_mid_charge() -> str | None:
        """A payment whose worker was killed; None where that came too late, as a loaded machine may."""
        id = customer.pay(simulate="slow")
        # The charge is booked, and its answer on the way for three seconds.
        until(lambda: charges(stack, [id]) == [1])
        stack.kill("psp.1")
        return id if customer.status(id) == "processing" else None

    id = until(killed_in_mid_charge)
    stack.expire_leases([id])

    assert customer.settled([id]) == ["completed"]
    assert charges(stack, [id]) == [1]
    assert events_of(stack, id) == ["created", "updated", "updated", "completed"]


def test_a_flushed_redis_loses_no_payment_that_waits(stack: Stack):
    customer = stack.customer()
    stack.pause("payments.1")
    try:
        ids = [customer.pay() for _ in range(10)]
        stack.flush()
    finally:
        stack.resume("payments.1")
    assert customer.settled(ids) == ["completed"] * 10
    assert charges(stack, ids) == [1] * 10


def test_payments_are_accepted_while_redis_is_down(stack: Stack):
    customer = stack.customer()
    stack.valkey.stop()
    try:
        id = customer.pay()
        until(lambda: stack.health() == "degraded")
        assert customer.status(id) == "pending"
    finally:
        stack.valkey.start()
    assert customer.settled([id]) == ["completed"]
    until(lambda: stack.health() == "ok")


def test_a_postgres_that_restarts_is_a_503_until_it_is_back(stack: Stack):
    customer = stack.customer()
    waiting = customer.pay(simulate="slow")
    stack.postgres.stop()
    try:
        response = stack.http.get("/api/payments", headers=customer.headers)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert int(response.headers["Retry-After"]) >= 1
        # Each web process says what it saw a quarter of a second ago.
        until(lambda: stack.health() == "down")
    finally:
        stack.postgres.start()
    until(lambda: stack.health() == "ok")
    assert customer.settled([waiting, customer.pay()]) == ["completed"] * 2


def test_fifty_payments_survive_kills_and_a_flush(stack: Stack):
    customer = stack.customer()
    ids = []
    with ThreadPoolExecutor(4) as pool:
        for place in range(50):
            ids.append(pool.submit(customer.pay, simulate="decline" if place % 5 == 4 else "approve"))
            if place in (15, 35):
                stack.kill("payments.1")
                stack.kill("psp.1")
            if place in (25, 45):
                stack.flush()
    made = [id.result() for id in ids]
    assert customer.settled(made) == (["completed"] * 4 + ["failed"]) * 10
    assert charges(stack, made) == [1] * 50
    assert events_of(stack, made[0]) == ["created", "updated", "updated", "completed"]


def test_a_burst_of_slow_payments_keeps_no_other_customer_waiting(stack: Stack):
    slow, other = stack.customer(), stack.customer()
    # So that all of them wait when the other one comes, however long a loaded machine takes to accept them.
    stack.pause("psp.1")
    try:
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda _: slow.pay(simulate="slow"), range(24)))
        quick = other.pay()
    finally:
        stack.resume("psp.1")
    assert other.settled([quick]) == ["completed"]
    assert slow.settled(ids) == ["completed"] * 24
    # Not by the clock: it was settled before most of them. They take three seconds each, eight at a time.
    before = (
        "SELECT count(*) AS n FROM payments.payment_transactions t, payments.payment_transactions quick"
        " WHERE t.payment_id = ANY(%s::uuid[]) AND quick.payment_id = %s AND t.created_at < quick.created_at"
        " AND t.transaction_type = 'complete' AND quick.transaction_type = 'complete'"
    )
    assert stack.rows(before, ids, quick)[0]["n"] <= 12
    assert charges(stack, ids) == [1] * 24


def test_two_customers_race_for_one_request_and_one_pays(stack: Stack):
    body = {
        "email": "racing-vendor@example.com",
        "password": "correct horse battery",
        "name": "V",
        "role": "VENDOR",
    }
    data = stack.http.post("/api/auth/register", json=body).json()["data"]
    vendor = {"Authorization": f"Bearer {data['accessToken']}"}
    ask = {"type": "initiate", "amount": "80.00"}
    request = stack.http.post("/api/payments", json=ask, headers=vendor).json()["data"]["id"]
    query = "SELECT status FROM payments.payments WHERE id = %s"
    until(lambda: stack.rows(query, request)[0]["status"] == "initiated")

    customers = [stack.customer() for _ in range(8)]
    pay = {"type": "payment", "requestId": request}
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda c: stack.http.post("/api/payments", json=pay, headers=c.headers), customers)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    until(lambda: stack.rows(query, request)[0]["status"] == "completed")


def test_fifty_requests_with_one_key_make_one_payment_and_get_one_answer(stack: Stack):
    customer = stack.customer()
    headers = {**customer.headers, "Idempotency-Key": "order-50"}
    body = {"type": "payment", "amount": "12.50"}
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda _: stack.http.post("/api/payments", json=body, headers=headers), range(50))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    id = answers[0].json()["data"]["id"]
    assert customer.settled([id]) == ["completed"]
    mine = stack.http.get("/api/payments", headers=customer.headers).json()["data"]["items"]
    assert [payment["id"] for payment in mine] == [id]
    assert charges(stack, [id]) == [1]


def test_fifty_requests_with_one_key_that_wait_get_one_settled_answer(stack: Stack):
    """More requests than there are threads to wait in."""
    customer = stack.customer()
    headers = {**customer.headers, "Idempotency-Key": "fifty-wait", "Prefer": "wait=10"}
    body = {"type": "payment", "amount": "12.50"}
    stack.pause("payments.1")
    try:
        with ThreadPoolExecutor(50) as pool:
            futures = [
                pool.submit(stack.http.post, "/api/payments", json=body, headers=headers) for _ in range(50)
            ]
            kept = "SELECT 1 FROM payments.idempotency_keys WHERE key = 'fifty-wait' AND provisional"
            until(lambda: stack.rows(kept))
            stack.resume("payments.1")
            answers = [future.result() for future in futures]
    finally:
        stack.resume("payments.1")
    assert Counter(answer.status_code for answer in answers) == {201: 50}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    # A machine that settles a payment in half that time lets nobody wait in vain.
    took = (
        "SELECT extract(epoch FROM t.created_at - p.created_at)::float AS seconds FROM payments.payments p"
        " JOIN payments.payment_transactions t ON t.payment_id = p.id AND t.transaction_type = 'complete'"
        " WHERE p.id = %s"
    )
    paid = answers[0].json()["data"]
    customer.settled([paid["id"]])
    assert paid["status"] == "completed" or stack.rows(took, paid["id"])[0]["seconds"] > 5


def test_a_web_process_killed_in_the_middle_leaves_nothing_half_done(stack: Stack):
    """Every answer that came is true, and every payment that is there can be had again under its key."""
    customer = stack.customer()
    body = {"type": "payment", "amount": "12.50"}

    def pay(n: int) -> httpx.Response | None:
        try:
            headers = {**customer.headers, "Idempotency-Key": f"order-{n}"}
            # `verify`: without TLS, a client need not read the certificates of the system.
            return httpx.post(
                f"{stack.http.base_url}/api/payments", json=body, headers=headers, timeout=30, verify=False
            )
        except httpx.TransportError:
            return None

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(pay, n) for n in range(60)]
        stack.kill("web.1")
        first = [future.result() for future in futures]
    until(lambda: stack.health() == "ok")
    again = [until(partial(pay, n)) for n in range(60)]
    assert {answer.status_code for answer in again} == {201}
    for before, after in zip(first, again, strict=True):
        assert before is None or before.content == after.content
    mine = stack.rows(
        "SELECT count(*) AS n FROM payments.payments WHERE user_id = %s", again[0].json()["data"]["userId"]
    )
    assert mine[0]["n"] == 60
