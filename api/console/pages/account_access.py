"""Pages for visitors without a session: opening an account, and the two pages that mails link to."""

from api.console.client import ApiError
from api.console.visits import Resource, Visit, page


class Register(Resource):
    """GET, POST /console/register."""

    @page(public=True)
    def on_get(self, visit: Visit) -> None:
        visit.show("register.html", values={}, error=None)

    @page(public=True)
    def on_post(self, visit: Visit) -> None:
        values = {name: visit.form.get(name, "") for name in ("name", "email", "password", "role")}
        try:
            visit.begin(visit.api.post("/auth/register", values))
        except ApiError as error:
            visit.show("register.html", values=values, error=error)
        else:
            visit.go("/console", "Your account is open. Confirm your address with the link that was mailed.")


class ForgotPassword(Resource):
    """GET, POST /console/forgot-password."""

    @page(public=True)
    def on_get(self, visit: Visit) -> None:
        visit.show("forgot-password.html", values={}, error=None)

    @page(public=True)
    def on_post(self, visit: Visit) -> None:
        values = {"email": visit.form.get("email", "")}
        try:
            visit.api.post("/auth/forgot-password", values)
        except ApiError as error:
            visit.show("forgot-password.html", values=values, error=error)
        else:
            visit.go(
                "/console/sign-in", "If there is such an account, a link was mailed. It works for 30 minutes."
            )


class VerifyEmail(Resource):
    """GET, POST /verify-email. Opening the page changes nothing: mail scanners open links."""

    @page(public=True)
    def on_get(self, visit: Visit) -> None:
        visit.show("verify-email.html", token=visit.req.get_param("token") or "", error=None)

    @page(public=True)
    def on_post(self, visit: Visit) -> None:
        token = visit.form.get("token", "")
        try:
            visit.api.post("/auth/verify-email", {"token": token})
        except ApiError as error:
            visit.show("verify-email.html", token=token, error=error)
        else:
            visit.show("done.html", title="Your address is confirmed", text="You can close this page.")


class ResetPassword(Resource):
    """GET, POST /reset-password."""

    @page(public=True)
    def on_get(self, visit: Visit) -> None:
        visit.show("reset-password.html", token=visit.req.get_param("token") or "", error=None)

    @page(public=True)
    def on_post(self, visit: Visit) -> None:
        values = {name: visit.form.get(name, "") for name in ("token", "newPassword")}
        try:
            visit.api.post("/auth/reset-password", values)
        except ApiError as error:
            visit.show("reset-password.html", token=values["token"], error=error)
        else:
            visit.show(
                "done.html",
                title="Your password is changed",
                text="Every session has ended. Sign in with the new password.",
            )
