"""GET, POST /console/account: the profile, preferences, password and sessions of who is signed in."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from api.console.client import ApiError
from api.console.visits import Resource, Visit, page

_PATH = "/console/account"
_NOTIFICATIONS = ("paymentCompleted", "paymentFailed")


class Account(Resource):
    """GET, POST /console/account."""

    @page()
    def on_get(self, visit: Visit) -> None:
        _show(visit)

    @page()
    def on_post(self, visit: Visit) -> None:
        part = visit.form.get("part", "")
        try:
            notice = _CHANGES.get(part, _unknown)(visit)
        except ApiError as error:
            _show(visit, part=part, error=error)
        else:
            visit.go(_PATH, notice)


class AccountAvatar(Resource):
    """POST /console/account/avatar."""

    @page()
    def on_post(self, visit: Visit) -> None:
        try:
            visit.api.upload("/profile/avatar", visit.req)
        except ApiError as error:
            _show(visit, part="avatar", error=error)
        else:
            visit.go(_PATH, "Your picture is changed.")


class AccountSession(Resource):
    """POST /console/account/sessions/{session_id}: ends a session."""

    @page()
    def on_post(self, visit: Visit, session_id: UUID) -> None:
        visit.api.delete(f"/auth/sessions/{session_id}")
        visit.go(_PATH, "That session has ended.")


class SignOutEverywhere(Resource):
    """POST /console/account/sessions: ends all sessions, this one too."""

    @page()
    def on_post(self, visit: Visit) -> None:
        visit.api.post("/auth/logout", {"everywhere": True})
        visit.end()
        visit.go("/console/sign-in", "All your sessions have ended.")


def _change_profile(visit: Visit) -> str:
    visit.api.put("/profile", {name: visit.form.get(name) for name in ("name", "phone", "address", "bio")})
    return "Your profile is saved."


def _change_preferences(visit: Visit) -> str:
    stored: dict[str, Any] = visit.api.get("/profile/preferences")
    chosen = visit.fields("locale", "timezone", "theme")
    # Other clients keep preferences of their own there, which are no matter of this page.
    kept = {name: value for name, value in stored.items() if name not in ("locale", "timezone", "theme")}
    notifications = {**kept.get("notifications", {}), **{name: name in visit.form for name in _NOTIFICATIONS}}
    visit.api.put("/profile/preferences", {**kept, **chosen, "notifications": notifications})
    visit.set_theme(chosen.get("theme", ""))
    return "Your preferences are saved."


def _change_password(visit: Visit) -> str:
    fields = ("currentPassword", "newPassword")
    visit.api.put("/auth/password", {name: visit.form.get(name, "") for name in fields})
    return "Your password is changed. All other sessions have ended."


def _resend_verification(visit: Visit) -> str:
    visit.api.post("/auth/verify-email/resend")
    return "A new link was mailed to you."


def _remove_avatar(visit: Visit) -> str:
    visit.api.delete("/profile/avatar")
    return "Your picture is removed."


def _unknown(_visit: Visit) -> str:
    return ""


_CHANGES = {
    "profile": _change_profile,
    "preferences": _change_preferences,
    "password": _change_password,
    "verification": _resend_verification,
    "avatar": _remove_avatar,
}


def _show(visit: Visit, *, part: str = "", error: ApiError | None = None) -> None:
    profile = visit.api.get("/profile")
    preferences = visit.api.get("/profile/preferences")
    # Below our own origin, under whatever name the browser knows it.
    avatar = urlsplit(profile["avatarUrl"] or "").path
    # The body of an upload is read already.
    sent = {part: visit.form} if error and part != "avatar" else {}
    visit.show(
        "account.html",
        profile=profile,
        preferences=preferences,
        sessions=visit.api.get("/auth/sessions", {"limit": 50}),
        avatar=avatar,
        values={"profile": profile, "preferences": preferences} | sent,
        error=error,
        errors={part: error},
    )
