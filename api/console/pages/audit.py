"""The audit log for administrators: entries, the hash chain with its seal, its verification, its export."""

import json
from typing import Any

from api.console.client import ApiError, Call
from api.console.visits import Console, Resource, Visit, page

_FILTERS = ("userId", "action", "resourceType", "resourceId", "from", "to", "cursor")
# Links of the chain that are drawn; entries of one file of the export; files that are listed.
_LINKS, _FILE_ENTRIES, _FILES = 6, 100_000, 20
# Beyond every number: the export then has the seal and no entry.
_BEYOND = 2**62


class Audit(Resource):
    """GET /console/audit."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._actions: list[str] = []

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query(*_FILTERS)
        entries, error = visit.search("/admin/audit-logs", query)
        verification = self._verify(visit) if visit.query("verify") else None
        seal = _export(visit, _BEYOND, 1)[-1]["seal"]
        broken = _broken_entry(visit, verification)
        last = seal["seq"] if broken is None else broken["seq"] + _LINKS // 2
        first = max(0, last - _LINKS)
        links, call = _export(visit, first, _LINKS), _call(first)
        visit.show(
            "audit.html",
            error=error,
            query=query,
            entries=entries,
            actions=self._known_actions(visit),
            seal=seal,
            links=links[1:-1],
            # Where the drawn part begins, and whether it reaches the seal.
            start=links[0]["start"],
            reaches_seal=links[-1]["end"] == {**seal, "rows": len(links) - 2},
            chain_call=call,
            verification=verification,
            broken=broken,
            files=[
                (after, min(after + _FILE_ENTRIES, seal["seq"]))
                for after in range(0, seal["seq"], _FILE_ENTRIES)
            ][-_FILES:],
        )

    @staticmethod
    def _verify(visit: Visit) -> Any:
        try:
            return visit.api.get("/admin/audit-logs/verify")
        except ApiError as error:
            if error.status != 503:
                raise
            return error

    def _known_actions(self, visit: Visit) -> list[str]:
        """The catalogue of actions, from the document of the API."""
        if not self._actions:
            document = json.loads(visit.api.send("GET", "/openapi.json").content())
            self._actions = document["components"]["schemas"]["AuditAction"]["enum"]
        return self._actions


class AuditExport(Resource):
    """GET /console/audit/export: the API's export as a download, whose token no script can read."""

    @page()
    def on_get(self, visit: Visit) -> None:
        visit.pass_on("/admin/audit-logs/export", visit.query("after", "limit"))


def _export(visit: Visit, after: int, limit: int) -> list[dict[str, Any]]:
    reply = visit.api.send("GET", "/admin/audit-logs/export", query={"after": after, "limit": limit})
    if reply.status != 200:
        raise ApiError(reply, json.loads(reply.content())["error"])
    return [json.loads(line) for line in reply.content().splitlines()]


def _call(after: int) -> Call:
    return Call("GET", f"/api/admin/audit-logs/export?after={after}&limit={_LINKS}")


def _broken_entry(visit: Visit, verification: Any) -> dict[str, Any] | None:
    """The first broken entry, where it is one that can be drawn: it exists, and has a number."""
    broken = None if isinstance(verification, ApiError | None) else verification["firstBroken"]
    if broken is None or broken["id"] is None:
        return None
    entry: dict[str, Any] = visit.api.get(f"/admin/audit-logs/{broken['id']}")
    return entry if entry["seq"] is not None else None
