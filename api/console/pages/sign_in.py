"""Signing in, signing out, the choice of light or dark."""

from typing import Any

from api.console.client import ApiError
from api.console.visits import Resource, Visit, page
from api.demo_users import DEMO_NAMES, DEMO_PASSWORD, demo_email
from db.users import Role


class SignIn(Resource):
    """GET, POST /console/sign-in."""

    @page(public=True)
    def on_get(self, visit: Visit) -> None:
        _show(visit, email=visit.req.get_param("email") or "")

    @page(public=True)
    def on_post(self, visit: Visit) -> None:
        email = visit.form.get("email", "")
        try:
            visit.begin(
                visit.api.post("/auth/login", {"email": email, "password": visit.form.get("password", "")})
            )
        except ApiError as error:
            _show(visit, email=email, error=error)
        else:
            visit.go(visit.form.get("next", ""))


class DemoSignIn(Resource):
    """POST /console/sign-in/demo: signs in as a demo user, outside production only."""

    @page(public=True)
    def on_post(self, visit: Visit) -> None:
        role = visit.form.get("role", "")
        # The password is public: counting these sign-ins would protect nothing.
        visit.api.counts_sign_ins = False
        try:
            email = demo_email(Role(role)) if role in set(Role) else ""
            visit.begin(visit.api.post("/auth/login", {"email": email, "password": DEMO_PASSWORD}))
        except ApiError as error:
            _show(visit, error=error)
        else:
            visit.go(visit.form.get("next", ""))


class SignOut(Resource):
    """POST /console/sign-out."""

    @page(public=True)
    def on_post(self, visit: Visit) -> None:
        if visit.user:
            visit.api.post("/auth/logout")
        visit.end()
        visit.go("/console/sign-in", "You are signed out.")


class Theme(Resource):
    """POST /console/theme."""

    @page(public=True)
    def on_post(self, visit: Visit) -> None:
        visit.set_theme(visit.form.get("theme", ""))
        visit.go(visit.form.get("next", ""))


def _show(visit: Visit, *, email: str = "", error: Any = None) -> None:
    demo = {} if visit.console.environment == "production" else DEMO_NAMES
    back = visit.form.get("next") if visit.req.method == "POST" else visit.req.get_param("next")
    visit.show("sign-in.html", values={"email": email}, error=error, next=back or "", demo=demo)
