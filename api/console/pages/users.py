"""Pages of an administrator: the users, one user with their sessions, a new user."""

from typing import Any
from uuid import UUID

from api.console.client import ApiError
from api.console.visits import Visit
from api.security.permissions import Permission

_PATH = "/console/users"
# The end of the address that the API shows for a closed account.
_CLOSED = "@closed.invalid"


def show_list(visit: Visit) -> None:
    """GET /console/users."""
    query = visit.query("q", "role", "active", "cursor")
    visit.show("users.html", users=visit.api.get("/admin/users", query), query=query, closed=_CLOSED)


def show_new(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/users/new."""
    visit.require(Permission.OPERATE)
    visit.show("user-new.html", values=visit.form, error=error)


def create(visit: Visit) -> None:
    """POST /console/users/new."""
    body = {
        **visit.texts("email", "name", "password", "role"),
        "emailVerified": "emailVerified" in visit.form,
    }
    made = visit.api.post("/admin/users", body)
    visit.go(f"{_PATH}/{made['id']}", "The account is created.")


def show(visit: Visit, user_id: UUID, *, error: ApiError | None = None, mistyped: bool = False) -> None:
    """GET /console/users/{user_id}. `mistyped` says that the address which confirms the closing is wrong."""
    account = visit.api.get(f"/admin/users/{user_id}")
    log_query = {"resourceType": "user", "resourceId": str(user_id), "limit": 10}
    part = visit.form.get("part", "")
    visit.show(
        "user.html",
        account=account,
        is_closed=account["email"].endswith(_CLOSED),
        sessions=visit.api.get(f"/admin/users/{user_id}/sessions", {"limit": 50}),
        log=visit.api.get("/admin/audit-logs", log_query),
        values=visit.form if part == "account" else account,
        error=error,
        status=400 if mistyped else 200,
        errors={part: error},
        mistyped=mistyped,
    )


def change(visit: Visit, user_id: UUID) -> None:
    """POST /console/users/{user_id}."""
    part, path = visit.form.get("part", ""), f"/admin/users/{user_id}"
    if part == "close" and visit.form.get("confirm", "").lower() != visit.api.get(path)["email"].lower():
        show(visit, user_id, mistyped=True)
    else:
        visit.go(f"{_PATH}/{user_id}", _CHANGES[part](visit, path) if part in _CHANGES else "")


def end_sessions(visit: Visit, user_id: UUID) -> None:
    """POST /console/users/{user_id}/sessions: ends all."""
    visit.api.delete(f"/admin/users/{user_id}/sessions")
    visit.go(f"{_PATH}/{user_id}", "All sessions have ended.")


def end_session(visit: Visit, user_id: UUID, session_id: UUID) -> None:
    """POST /console/users/{user_id}/sessions/{session_id}."""
    visit.api.delete(f"/admin/users/{user_id}/sessions/{session_id}")
    visit.go(f"{_PATH}/{user_id}", "That session has ended.")


def _change(visit: Visit, path: str) -> str:
    """Sends what differs from the account: another address is not confirmed unless the form says so."""
    account, verified = visit.api.get(path), "emailVerified" in visit.form
    body: dict[str, Any] = {
        name: visit.form.get(name, "") for name in ("name", "email") if visit.form.get(name) != account[name]
    }
    if verified != account["emailVerified"] or ("email" in body and verified):
        body["emailVerified"] = verified
    if not body:
        return "Nothing was changed."
    visit.api.put(path, body)
    return "The account is changed."


def _change_role(visit: Visit, path: str) -> str:
    visit.api.put(f"{path}/role", {"role": visit.form.get("role", "")})
    return "The role is changed."


def _suspend(visit: Visit, path: str) -> str:
    visit.api.put(path, {"active": False})
    return "The account is suspended, and all its sessions have ended."


def _reactivate(visit: Visit, path: str) -> str:
    visit.api.put(path, {"active": True})
    return "The account is active again."


def _close(visit: Visit, path: str) -> str:
    visit.api.delete(path)
    return "The account is closed. Its personal data is erased within a minute or two."


_CHANGES = {
    "account": _change,
    "role": _change_role,
    "suspend": _suspend,
    "reactivate": _reactivate,
    "close": _close,
}
