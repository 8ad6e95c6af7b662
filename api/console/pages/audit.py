"""The audit log for administrators: entries, the hash chain with its seal, its verification, its export."""

import json
from typing import Any

from api.console.client import ApiError, Call
from api.console.visits import Visit

_FILTERS = ("userId", "action", "resourceType", "resourceId", "from", "to", "cursor")
# How many links of the chain are drawn, how many entries a file of the export has, how many files are listed.
_LINKS, _FILE_ENTRIES, _FILES = 6, 100_000, 20
# The number of no entry: an export after this number has the seal only.
_BEYOND = 2**62


def show(visit: Visit) -> None:
    """GET /console/audit."""
    query = visit.query(*_FILTERS)
    entries, error = visit.search("/admin/audit-logs", query)
    verification = _verify(visit) if visit.query("verify") else None
    seal = _export(visit, _BEYOND, 1)[0][-1]["seal"]
    broken = _broken_entry(visit, verification)
    # The links that are drawn end at the seal, or have the broken entry in their middle.
    last = seal["seq"] if broken is None else broken["seq"] + _LINKS // 2
    links, call = _export(visit, max(0, last - _LINKS), _LINKS)
    visit.show(
        "audit.html",
        error=error,
        query=query,
        entries=entries,
        actions=visit.schemas()["AuditAction"]["enum"],
        seal=seal,
        links=links[1:-1],
        # Where the drawn part begins, and whether it reaches the seal.
        start=links[0]["start"],
        reaches_seal=links[-1]["end"] == {**seal, "rows": len(links) - 2},
        chain_call=call,
        verification=verification,
        broken=broken,
        files=[
            (after, min(after + _FILE_ENTRIES, seal["seq"])) for after in range(0, seal["seq"], _FILE_ENTRIES)
        ][-_FILES:],
    )


def download(visit: Visit) -> None:
    """GET /console/audit/export: the API's export as a download, whose token no script can read."""
    visit.pass_on("/admin/audit-logs/export", visit.query("after", "limit"))


def _verify(visit: Visit) -> Any:
    """Returns the verification, or the error that says why there is none now. Raises ApiError."""
    try:
        return visit.api.get("/admin/audit-logs/verify")
    except ApiError as error:
        if error.status != 503:
            raise
        return error


def _export(visit: Visit, after: int, limit: int) -> tuple[list[dict[str, Any]], Call]:
    """Returns the lines of an export (its start, the entries, its end with the seal), and the request."""
    reply = visit.api.send("GET", "/admin/audit-logs/export", query={"after": after, "limit": limit})
    if reply.status != 200:
        raise ApiError(reply, json.loads(reply.content())["error"])
    return [json.loads(line) for line in reply.content().splitlines()], reply.call


def _broken_entry(visit: Visit, verification: Any) -> dict[str, Any] | None:
    """Returns the first broken entry; None without one, and for one that was removed or has no number."""
    broken = None if isinstance(verification, ApiError | None) else verification["firstBroken"]
    if broken is None or broken["id"] is None:
        return None
    entry: dict[str, Any] = visit.api.get(f"/admin/audit-logs/{broken['id']}")
    return entry if entry["seq"] is not None else None
