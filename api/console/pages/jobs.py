"""Jobs for administrators: what waits, has failed or is dead; queues to pause; events that were given up."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from uuid import UUID

from api.console.client import ApiError
from api.console.visits import Visit

_FILTERS = ("queue", "name", "state", "paymentId", "cursor")
_ANY = ("", "any")
_STATES = (_ANY, *((state, state) for state in ("waiting", "running", "failed", "dead")))


def show_list(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/jobs."""
    query = visit.query(*_FILTERS)
    listed, refused = visit.search("/admin/jobs", query)
    # Dead jobs first, unless the list has been narrowed down.
    dead = None if query else visit.api.get("/admin/jobs", {"state": "dead"})
    health = visit.api.get("/admin/health")
    visit.show(
        "jobs.html",
        error=error or refused,
        query=query,
        states=_STATES,
        queues=(_ANY, *((queue["name"], queue["name"]) for queue in health["queueStatuses"])),
        health=health,
        dead=dead,
        listed=listed or visit.api.get("/admin/jobs"),
        missed=visit.api.get("/admin/missed-events"),
    )


def show(visit: Visit, job_id: UUID) -> None:
    """GET /console/jobs/{job_id}."""
    visit.show("job.html", job=visit.api.get(f"/admin/jobs/{job_id}"))


def act(visit: Visit) -> None:
    """POST /console/jobs."""
    act = visit.form.get("act", "")
    visit.go(visit.form.get("next", "/console/jobs"), _ACTS[act](visit) if act in _ACTS else "")


def _retry(visit: Visit) -> str:
    visit.api.post(f"/admin/jobs/{_id(visit)}/retry")
    return "The job is due now."


def _retry_all(visit: Visit) -> str:
    name = visit.form.get("name", "")
    retried = visit.api.post("/admin/jobs/retry", {"name": name})["retried"]
    return f"{retried} dead {'job' if retried == 1 else 'jobs'} of {name} will be tried again."


def _drop(visit: Visit) -> str:
    visit.api.delete(f"/admin/jobs/{_id(visit)}")
    return "The job is dropped. Its work will not be done."


def _set_paused(visit: Visit, paused: bool) -> str:
    queue = visit.form.get("queue", "")
    config = visit.api.get("/admin/config")
    before: list[str] = next(item["value"] for item in config["items"] if item["key"] == "queues.paused")
    others = [name for name in before if name != queue]
    change = {"queues.paused": [*others, queue] if paused else others}
    try:
        visit.api.put("/admin/config", change, If_Match=config.etag or "*")
    except ApiError as error:
        if error.status != 412:
            raise
        # Another administrator changed the configuration at this moment. The list is read again.
        return _set_paused(visit, paused)
    if paused:
        return f"The queue {queue} is paused. What waits is kept, and is done when you resume it."
    return f"The queue {queue} is resumed."


def _retry_event(visit: Visit) -> str:
    return _handled(visit.api.post(f"/admin/missed-events/{_event(visit)}/retry"))


def _retry_events(visit: Visit) -> str:
    name = visit.form.get("subscriber", "")
    return _handled(visit.api.post("/admin/missed-events/retry", {"subscriber": name}))


def _handled(outcome: dict[str, Any]) -> str:
    failed = f" {outcome['failed']} failed again: the reason is in the list." if outcome["failed"] else ""
    return f"{outcome['retried']} handled.{failed}"


def _drop_event(visit: Visit) -> str:
    visit.api.delete(f"/admin/missed-events/{_event(visit)}")
    return "The event is dropped. The subscriber will not handle it."


def _id(visit: Visit) -> str:
    return quote(visit.form.get("id", ""), safe="")


def _event(visit: Visit) -> str:
    return "/".join(quote(visit.form.get(name, ""), safe="") for name in ("subscriber", "seq"))


_ACTS: dict[str, Callable[[Visit], str]] = {
    "retry": _retry,
    "retry-all": _retry_all,
    "drop": _drop,
    "pause": lambda visit: _set_paused(visit, True),
    "resume": lambda visit: _set_paused(visit, False),
    "retry-event": _retry_event,
    "retry-events": _retry_events,
    "drop-event": _drop_event,
}
