"""The page of one's own account: profile, picture, preferences, password and sessions."""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from api.console.client import ApiError
from api.console.visits import SIGN_IN, Visit

_PATH = "/console/account"
_NOTIFICATIONS = ("paymentCompleted", "paymentFailed")


def show(visit: Visit, *, error: ApiError | None = None, part: str = "") -> None:
    """GET /console/account. `part` is the form that the API refused; by default, the form names itself."""
    profile = visit.api.get("/profile")
    preferences = visit.api.get("/profile/preferences")
    refused = part or visit.form.get("part", "")
    visit.show(
        "account.html",
        profile=profile,
        preferences=preferences,
        sessions=visit.api.get("/auth/sessions", {"limit": 50}),
        # Without the host: the browser may know this server by another name.
        avatar=urlsplit(profile["avatarUrl"] or "").path,
        values={"profile": profile, "preferences": preferences} | {refused: visit.form},
        error=error,
        errors={refused: error},
    )


def change(visit: Visit) -> None:
    """POST /console/account."""
    part = visit.form.get("part", "")
    visit.go(_PATH, _CHANGES[part](visit) if part in _CHANGES else "")


def _change_profile(visit: Visit) -> str:
    visit.api.put("/profile", {name: visit.form.get(name) for name in ("name", "phone", "address", "bio")})
    return "Your profile is saved."


def _change_preferences(visit: Visit) -> str:
    stored: dict[str, Any] = visit.api.get("/profile/preferences")
    chosen = visit.fields("locale", "timezone", "theme")
    # Other clients store other preferences in the same object, which this page must not remove.
    kept = {name: value for name, value in stored.items() if name not in ("locale", "timezone", "theme")}
    notifications = {**kept.get("notifications", {}), **{name: name in visit.form for name in _NOTIFICATIONS}}
    visit.api.put("/profile/preferences", {**kept, **chosen, "notifications": notifications})
    visit.set_theme(chosen.get("theme", ""))
    return "Your preferences are saved."


def _change_password(visit: Visit) -> str:
    visit.api.put("/auth/password", visit.texts("currentPassword", "newPassword"))
    return "Your password is changed. All other sessions have ended."


def _resend_verification(visit: Visit) -> str:
    visit.api.post("/auth/verify-email/resend")
    return "A new link was mailed to you."


def _remove_avatar(visit: Visit) -> str:
    visit.api.delete("/profile/avatar")
    return "Your picture is removed."


_CHANGES = {
    "profile": _change_profile,
    "preferences": _change_preferences,
    "password": _change_password,
    "verification": _resend_verification,
    "avatar": _remove_avatar,
}


def upload_avatar(visit: Visit) -> None:
    """POST /console/account/avatar."""
    try:
        visit.api.upload("/profile/avatar", visit.req)
    except ApiError as error:
        show(visit, error=error, part="avatar")
    else:
        visit.go(_PATH, "Your picture is changed.")


def end_session(visit: Visit, session_id: UUID) -> None:
    """POST /console/account/sessions/{session_id}."""
    visit.api.delete(f"/auth/sessions/{session_id}")
    visit.go(_PATH, "That session has ended.")


def end_sessions(visit: Visit) -> None:
    """POST /console/account/sessions: ends all, this one too."""
    visit.api.post("/auth/logout", {"everywhere": True})
    visit.end()
    visit.go(SIGN_IN, "All your sessions have ended.")
