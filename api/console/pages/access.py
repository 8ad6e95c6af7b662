"""Pages for visitors: signing in and out, opening an account, the pages that mails link to, light or dark."""

from api.console.client import ApiError
from api.console.visits import SIGN_IN, Visit
from db.demo_users import DEMO_NAMES, DEMO_PASSWORD, demo_email
from db.users import Role


def show_sign_in(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/sign-in."""
    sent = visit.query("email", "next") | visit.form
    demo = {} if visit.console.environment == "production" else DEMO_NAMES
    visit.show("sign-in.html", values=sent, error=error, next=sent.get("next", ""), demo=demo)


def sign_in(visit: Visit) -> None:
    """POST /console/sign-in."""
    _sign_in(visit, visit.texts("email", "password"))


def sign_in_as_demo_user(visit: Visit) -> None:
    """POST /console/sign-in/demo, which exists outside production only."""
    role = visit.form.get("role", "")
    email = demo_email(Role(role)) if role in set(Role) else ""
    # The password is public: counting these sign-ins would protect nothing.
    visit.api.counts_sign_ins = False
    try:
        _sign_in(visit, {"email": email, "password": DEMO_PASSWORD})
    except ApiError as error:
        show_sign_in(visit, error=error)


def _sign_in(visit: Visit, credentials: dict[str, str]) -> None:
    visit.begin(visit.api.post("/auth/login", credentials))
    visit.go(visit.form.get("next", ""))


def sign_out(visit: Visit) -> None:
    """POST /console/sign-out."""
    if visit.user:
        visit.api.post("/auth/logout")
    visit.end()
    visit.go(SIGN_IN, "You are signed out.")


def set_theme(visit: Visit) -> None:
    """POST /console/theme."""
    visit.set_theme(visit.form.get("theme", ""))
    visit.go(visit.form.get("next", ""))


def show_register(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/register."""
    visit.show("register.html", values=visit.form, error=error)


def register(visit: Visit) -> None:
    """POST /console/register."""
    visit.begin(visit.api.post("/auth/register", visit.texts("name", "email", "password", "role")))
    visit.go("/console", "Your account is open. Confirm your address with the link that was mailed.")


def show_forgot_password(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /console/forgot-password."""
    visit.show("forgot-password.html", values=visit.form, error=error)


def mail_reset_link(visit: Visit) -> None:
    """POST /console/forgot-password."""
    visit.api.post("/auth/forgot-password", visit.texts("email"))
    visit.go(SIGN_IN, "If there is such an account, a link was mailed. It works for 30 minutes.")


def show_reset_password(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /reset-password."""
    visit.show("reset-password.html", token=_token(visit), error=error)


def reset_password(visit: Visit) -> None:
    """POST /reset-password."""
    visit.api.post("/auth/reset-password", visit.texts("token", "newPassword"))
    text = "Every session has ended. Sign in with the new password."
    visit.show("done.html", title="Your password is changed", text=text)


def show_verify_email(visit: Visit, *, error: ApiError | None = None) -> None:
    """GET /verify-email. Opening the page changes nothing: mail scanners open links."""
    visit.show("verify-email.html", token=_token(visit), error=error)


def verify_email(visit: Visit) -> None:
    """POST /verify-email."""
    visit.api.post("/auth/verify-email", visit.texts("token"))
    visit.show("done.html", title="Your address is confirmed", text="You can close this page.")


def _token(visit: Visit) -> str:
    """Returns the token of the mailed link: of the address, or of the form that the page sent."""
    return (visit.query("token") | visit.form).get("token", "")
