"""Pages of an administrator: the users, one user with their sessions, a new user."""

from typing import Any
from uuid import UUID

from api.console.client import ApiError
from api.console.visits import Resource, Visit, page

_PATH = "/console/users"
_ROLES = ("CUSTOMER", "VENDOR", "ADMIN")
# What the API gives a closed account for an address.
_CLOSED = "@closed.invalid"


class Users(Resource):
    """GET /console/users."""

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query("q", "role", "active", "cursor")
        visit.show("users.html", users=visit.api.get("/admin/users", query), query=query, closed=_CLOSED)


class NewUser(Resource):
    """GET, POST /console/users/new."""

    @page()
    def on_get(self, visit: Visit) -> None:
        _show_form(visit, {"role": "CUSTOMER"})

    @page()
    def on_post(self, visit: Visit) -> None:
        body: dict[str, Any] = {
            name: visit.form.get(name, "") for name in ("email", "name", "password", "role")
        }
        body["emailVerified"] = "emailVerified" in visit.form
        try:
            made = visit.api.post("/admin/users", body)
        except ApiError as error:
            _show_form(visit, {**visit.form, "password": ""}, error)
        else:
            visit.go(f"{_PATH}/{made['id']}", "The account is created.")


class OneUser(Resource):
    """GET, POST /console/users/{user_id}: the account, and what an administrator does to it."""

    @page()
    def on_get(self, visit: Visit, user_id: UUID) -> None:
        _show(visit, user_id)

    @page()
    def on_post(self, visit: Visit, user_id: UUID) -> None:
        part = visit.form.get("part", "")
        try:
            notice = _CHANGES[part](visit, f"/admin/users/{user_id}") if part in _CHANGES else ""
        except ApiError as error:
            _show(visit, user_id, part=part, error=error)
        except NotConfirmed:
            _show(visit, user_id, part="mistyped")
        else:
            visit.go(f"{_PATH}/{user_id}", notice)


class UserSessions(Resource):
    """POST /console/users/{user_id}/sessions: ends all sessions of a user."""

    @page()
    def on_post(self, visit: Visit, user_id: UUID) -> None:
        visit.api.delete(f"/admin/users/{user_id}/sessions")
        visit.go(f"{_PATH}/{user_id}", "All sessions have ended.")


class UserSession(Resource):
    """POST /console/users/{user_id}/sessions/{session_id}: ends one session of a user."""

    @page()
    def on_post(self, visit: Visit, user_id: UUID, session_id: UUID) -> None:
        visit.api.delete(f"/admin/users/{user_id}/sessions/{session_id}")
        visit.go(f"{_PATH}/{user_id}", "That session has ended.")


class NotConfirmed(Exception):
    """The address that confirms the closing of an account was not typed."""


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
    if visit.form.get("confirm", "").lower() != str(visit.api.get(path)["email"]).lower():
        raise NotConfirmed
    visit.api.delete(path)
    return "The account is closed. Its personal data is erased within a minute or two."


_CHANGES = {
    "account": _change,
    "role": _change_role,
    "suspend": _suspend,
    "reactivate": _reactivate,
    "close": _close,
}


def _show_form(visit: Visit, values: dict[str, str], error: ApiError | None = None) -> None:
    visit.show("user-new.html", values=values, error=error, roles=_ROLES)


def _show(visit: Visit, user_id: UUID, *, part: str = "", error: ApiError | None = None) -> None:
    account = visit.api.get(f"/admin/users/{user_id}")
    log_query = {"resourceType": "user", "resourceId": str(user_id), "limit": 10}
    visit.show(
        "user.html",
        account=account,
        is_closed=account["email"].endswith(_CLOSED),
        sessions=visit.api.get(f"/admin/users/{user_id}/sessions", {"limit": 50}),
        log=visit.api.get("/admin/audit-logs", log_query),
        values=visit.form if part == "account" else account,
        error=error,
        status=400 if part == "mistyped" else 200,
        errors={part: error or True},
        roles=_ROLES,
    )
