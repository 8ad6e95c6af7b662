"""The page that breaks this stack, on a developer's machine: kill, freeze, flush, and watch payments end."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from api.console.client import Api, ApiError, Data
from api.console.pages.configuration import number
from api.console.visits import Visit
from db.core import times
from db.demo_users import DEMO_PASSWORD, demo_email
from db.users import Role


@dataclass(frozen=True)
class Scenario:
    """What the PSP does to some payments of a run (`metadata.simulate`)."""

    simulate: str
    payments: int
    label: str
    text: str


SCENARIOS = (
    Scenario("", 14, "plain", "decides by its approval rate"),
    Scenario("decline:insufficient_funds", 4, "no funds", "declines: the funds are insufficient"),
    Scenario("decline:expired_card", 3, "expired", "declines: the card is expired"),
    Scenario("slow", 6, "slow", "charges, and answers after three seconds"),
    Scenario("error", 5, "error", "answers 5xx twice, then charges"),
    Scenario("timeout", 8, "timeout", "charges, and its answer is lost"),
    Scenario("duplicate", 5, "duplicate", "answers twice"),
    Scenario("late", 5, "late", "answers after we have asked what became of the payment"),
)
# What "break everything" does, after the payments were accepted.
EVERYTHING: tuple[dict[str, Any], ...] = (
    *(
        {"fault": "kill", "process": f"{name}.1"}
        for name in ("psp", "payments", "events", "mail", "subscribers")
    ),
    *({"fault": "freeze", "process": f"{name}.1", "seconds": 10} for name in ("relay", "scheduler")),
    {"fault": "flushRedis"},
)
# For how long a request is sent again while the API cannot take it.
_SEND_FOR_S, _SEND_AGAIN_AFTER_S = 20.0, 0.5
# For how long a change of a payment is highlighted.
_FRESH = timedelta(seconds=2)
FREEZE_S = 10
PSP_KEYS = ("psp.approvalRate", "psp.latencyMs")


def show(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/break-it."""
    stack, runs = visit.api.get("/dev/stack"), visit.api.get("/dev/runs")
    config = visit.api.get("/admin/config")
    now = times.now()
    visit.show(
        "break-it.html",
        error=error,
        stack=stack,
        processes=stack["processes"],
        frozen_for=_frozen_for(stack["faults"], now),
        runs=runs,
        run=_summed_up(runs["items"][0], now) if runs["items"] else None,
        earlier=[_summed_up(each, now) for each in runs["items"][1:6]],
        health=visit.api.get("/admin/health"),
        invariants=visit.api.get("/admin/invariants"),
        config=config,
        psp={each["key"]: each["value"] for each in config["items"] if each["key"] in PSP_KEYS},
        scenarios=SCENARIOS,
        labels={each.simulate: each.label for each in SCENARIOS},
        total=sum(each.payments for each in SCENARIOS),
        freeze_s=FREEZE_S,
    )


def act(visit: Visit) -> None:
    """POST /console/break-it."""
    # The API refuses this to all but administrators. The payments below are sent as another user.
    visit.api.get("/dev/stack")
    visit.go("/console/break-it", _act(visit))


def _act(visit: Visit) -> str:
    """Does what the form asks for; returns what to say about it. Raises ApiError."""
    act, process = visit.form.get("act"), visit.form.get("process", "")
    if act == "check":
        visit.api.post("/admin/invariants")
        return "The invariants are being checked."
    if act == "psp":
        visit.api.put("/admin/config", {key: number(visit.form.get(key, "")) for key in PSP_KEYS})
        return "The PSP does so within two seconds."
    if act in ("send", "everything"):
        accepted = _send_payments(visit)
        for fault in EVERYTHING if act == "everything" else ():
            visit.api.post("/dev/faults", fault)
        return accepted
    if act == "killJob":
        return _let_a_job_die(visit)
    faults: dict[str | None, tuple[dict[str, Any], str]] = {
        "flush": ({"fault": "flushRedis"}, "Redis is empty."),
        "freeze": (
            {"fault": "freeze", "process": process, "seconds": FREEZE_S},
            f"{process} stands still for {FREEZE_S} seconds.",
        ),
        "kill": ({"fault": "kill", "process": process}, f"{process} is killed."),
    }
    fault, said = faults.get(act, faults["kill"])
    visit.api.post("/dev/faults", fault)
    return said


def _send_payments(visit: Visit) -> str:
    """Sends the payments of a run as the demo customer; returns how many were accepted. Raises ApiError."""
    customer = _demo_customer(visit)
    run = str(uuid4())
    scenarios = [each.simulate for each in SCENARIOS for _ in range(each.payments)]
    random.Random(run).shuffle(scenarios)
    deadline = time.monotonic() + _SEND_FOR_S
    refused: Counter[str] = Counter()
    for scenario in scenarios:
        metadata = {"run": run} | ({"simulate": scenario} if scenario else {})
        try:
            _pay(customer, metadata, deadline)
        except ApiError as error:
            refused[error.message] += 1
    reasons = " ".join(f"{count} refused: {message}" for message, count in refused.items())
    return f"{len(scenarios) - refused.total()} payments are accepted. {reasons}".strip()


def _let_a_job_die(visit: Visit) -> str:
    """Sends a payment whose answer is lost, and makes the job dead that it waits for. Raises ApiError."""
    deadline = time.monotonic() + _SEND_FOR_S
    payment = _pay(_demo_customer(visit), {"simulate": "timeout"}, deadline)
    fault = {"fault": "killJob", "paymentId": payment["id"]}
    # A 404 while a worker has the job: only a job that waits can be made dead.
    _insist(lambda: visit.api.post("/dev/faults", fault), 404, deadline)
    return (
        "A job is dead, as if it had failed for an hour. Its payment stands still until the job is retried."
    )


def _demo_customer(visit: Visit) -> Api:
    customer = Api(visit.console.app, visit.req)
    customer.counts_sign_ins = False
    signed_in = customer.post("/auth/login", {"email": demo_email(Role.CUSTOMER), "password": DEMO_PASSWORD})
    customer.token = signed_in["accessToken"]
    return customer


def _pay(customer: Api, metadata: dict[str, str], deadline: float) -> Data:
    body = {"type": "payment", "amount": "12.50", "description": "Break it", "metadata": metadata}
    # Sent again with the same key, as every client should.
    key = str(uuid4())
    return _insist(lambda: customer.post("/payments", body, Idempotency_Key=key), 503, deadline)


def _insist(send: Callable[[], Data], status: int, deadline: float) -> Data:
    """Sends a request again while the API answers with this status, until the deadline. Raises ApiError."""
    while True:
        try:
            return send()
        except ApiError as error:
            if error.status != status or time.monotonic() > deadline:
                raise
            time.sleep(_SEND_AGAIN_AFTER_S)


def _frozen_for(faults: list[dict[str, Any]], now: datetime) -> dict[int, int]:
    """Returns for how many more seconds each frozen process will stand still, by its PID."""
    return {
        fault["pid"]: round(fault["seconds"] - (now - datetime.fromisoformat(fault["at"])).total_seconds())
        for fault in reversed(faults)
        if fault["fault"] == "freeze" and not fault["recoveredAt"]
    }


def _summed_up(run: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Returns a run with its totals; marks its payments that have just changed as `fresh`."""
    payments = run["payments"]
    for payment in payments:
        payment["fresh"] = now - datetime.fromisoformat(payment["updatedAt"]) < _FRESH
    completed, failed = (
        [each for each in payments if each["status"] == status] for status in ("completed", "failed")
    )
    ended = [datetime.fromisoformat(each["updatedAt"]) for each in (*completed, *failed)]
    started = datetime.fromisoformat(run["startedAt"])
    return run | {
        "total": len(payments),
        "ended": len(ended),
        "completed": len(completed),
        "failed": len(failed),
        "review": sum(each["needsReview"] for each in payments),
        "charges": sum(each["charges"] for each in payments),
        "twice": sum(each["charges"] > 1 for each in payments),
        # A completed payment is charged once, a failed one is not.
        "differs": sum(each["charges"] != 1 for each in completed)
        + sum(each["charges"] != 0 for each in failed),
        "seconds": round((max(ended, default=started) - started).total_seconds(), 1),
    }
