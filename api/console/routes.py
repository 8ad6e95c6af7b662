"""The routes of the console: each page, the roles that it is for, and its entry in the navigation."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import falcon
from falcon import Request, Response

from api.console.client import ApiError
from api.console.pages import (
    access,
    account,
    audit,
    board,
    break_it,
    configuration,
    home,
    jobs,
    paying,
    payments,
    reports,
    reviews,
    users,
)
from api.console.rendering import Assets
from api.console.visits import SIGN_IN, Console, Visit
from api.http.operation import RawOperation
from db.users import Role

ADMIN, VENDOR, CUSTOMER = Role
EVERYBODY = tuple(Role)
_WATCH, _WORK, _SET_UP, _TRY = "Watch", "Work", "Set up", "Try"
_PAYMENT, _REQUEST = "{payment_id:uuid}", "{request_id:uuid}"


@dataclass
class View:
    """A page: `show` answers a GET. Unless the page is public, visitors are redirected to the sign-in."""

    console: Console
    show: Callable[..., None]
    _: KW_ONLY
    public: bool = False

    @RawOperation(media="text/html")
    def on_get(self, req: Request, resp: Response, **ids: Any) -> None:
        self.show(_visit(self, req, resp), **ids)


@dataclass
class Form(View):
    """A page with a form: `send` answers a POST. A form that the API refuses is shown with the error."""

    send: Callable[..., None]

    @RawOperation(media="text/html")
    def on_post(self, req: Request, resp: Response, **ids: Any) -> None:
        visit = _visit(self, req, resp)
        try:
            self.send(visit, **ids)
        except ApiError as error:
            self.show(visit, **ids, error=error)


@dataclass
class Action:
    """A button without a page of its own: `send` answers a POST."""

    console: Console
    send: Callable[..., None]
    _: KW_ONLY
    public: bool = False

    @RawOperation(media="text/html")
    def on_post(self, req: Request, resp: Response, **ids: Any) -> None:
        self.send(_visit(self, req, resp), **ids)


def _visit(resource: View | Action, req: Request, resp: Response) -> Visit:
    """Returns the visit of an identified user. Raises HTTPBadRequest, or HTTPSeeOther to the sign-in."""
    if req.method == "POST":
        _require_same_origin(req)
    visit = Visit(resource.console, req, resp)
    visit.identify()
    if not visit.user and not resource.public:
        back = "/console" if req.method == "POST" else req.relative_uri
        raise falcon.HTTPSeeOther(f"{SIGN_IN}?next={quote(back, safe='')}")
    return visit


def _require_same_origin(req: Request) -> None:
    """Refuses a form of another site: SameSite=Lax alone would trust every subdomain. Raises HTTPBadRequest.

    A client that is no browser sends neither header, and holds no cookies that another site could use.
    """
    site, origin = req.get_header("Sec-Fetch-Site"), req.get_header("Origin")
    if site:
        refused = site not in ("same-origin", "none")
    else:
        refused = origin is not None and urlsplit(origin).netloc != req.netloc
    if refused:
        raise falcon.HTTPBadRequest


@dataclass(frozen=True)
class Page:
    """A page of the console. `show` answers a GET, and `send` the form of the page, if there is one.

    A page without `roles` is for visitors. `label` is the page's name in the navigation, and `group` the
    heading above that name for administrators, who have many pages.
    """

    path: str
    roles: tuple[str, ...]
    show: Callable[..., None]
    send: Callable[..., None] | None = None
    label: str = ""
    group: str = ""

    def resource(self, console: Console) -> View:
        """Returns the resource of this page."""
        if self.send:
            return Form(console, self.show, self.send, public=not self.roles)
        return View(console, self.show, public=not self.roles)


def console_routes(console: Console) -> dict[str, Any]:
    """Returns the resources of the console by their paths; adds the pages to its navigation."""
    console.pages = _pages(breakable=console.breakable)
    # Routes that are not pages: buttons, downloads, static files, the event stream.
    others: dict[str, Any] = {
        "/": home.RedirectToConsole(),
        "/console/": home.RedirectToConsole(),
        "/console/assets/{name}": Assets(),
        "/console/events": View(console, home.stream_events, public=True),
        "/console/sign-out": Action(console, access.sign_out, public=True),
        "/console/account/avatar": Action(console, account.upload_avatar),
        "/console/account/sessions": Action(console, account.end_sessions),
        "/console/account/sessions/{session_id:uuid}": Action(console, account.end_session),
        "/console/audit/export": View(console, audit.download),
        "/console/users/{user_id:uuid}/sessions": Action(console, users.end_sessions),
        "/console/users/{user_id:uuid}/sessions/{session_id:uuid}": Action(console, users.end_session),
        "/console/theme": Action(console, access.set_theme, public=True),
    }
    if console.environment != "production":
        others["/console/sign-in/demo"] = Action(console, access.sign_in_as_demo_user, public=True)
    return {page.path: page.resource(console) for page in console.pages} | others


def _pages(*, breakable: bool) -> list[Page]:
    pages = [
        # Redirects an administrator to the board.
        Page("/console", (CUSTOMER, VENDOR), home.show, label="Overview"),
        Page("/console/sign-in", (), access.show_sign_in, access.sign_in),
        Page("/console/register", (), access.show_register, access.register),
        Page("/console/forgot-password", (), access.show_forgot_password, access.mail_reset_link),
        Page("/verify-email", (), access.show_verify_email, access.verify_email),
        Page("/reset-password", (), access.show_reset_password, access.reset_password),
        Page("/console/pay", (CUSTOMER,), paying.show_pay, paying.pay, "Pay"),
        Page(f"/console/pay/{_REQUEST}", (CUSTOMER,), paying.show_request_to_pay, paying.pay_request),
        Page("/console/requests", (VENDOR,), paying.show_requests, label="Requests"),
        Page("/console/requests/new", (VENDOR,), paying.show_new_request, paying.make_request),
        Page(f"/console/requests/{_REQUEST}", (VENDOR,), paying.show_request, paying.change_request),
        Page("/console/board", (ADMIN,), board.show, label="Board", group=_WATCH),
        Page("/console/payments", EVERYBODY, payments.show_list, label="Payments", group=_WATCH),
        Page(f"/console/payments/{_PAYMENT}", EVERYBODY, payments.show, payments.change),
        Page("/console/history", EVERYBODY, payments.show_history, label="History", group=_WATCH),
        Page("/console/reports", (VENDOR, ADMIN), reports.show, label="Reports", group=_WATCH),
        Page("/console/audit", (ADMIN,), audit.show, label="Audit", group=_WATCH),
        Page("/console/reviews", (ADMIN,), reviews.show_list, label="Reviews", group=_WORK),
        Page(f"/console/reviews/{_PAYMENT}", (ADMIN,), reviews.show, reviews.resolve),
        Page("/console/differences", (ADMIN,), reviews.show_differences, label="Differences", group=_WORK),
        Page("/console/jobs", (ADMIN,), jobs.show_list, jobs.act, "Jobs", _WORK),
        Page("/console/jobs/{job_id:uuid}", (ADMIN,), jobs.show),
        Page("/console/users", (ADMIN,), users.show_list, label="Users", group=_SET_UP),
        Page("/console/users/new", (ADMIN,), users.show_new, users.create),
        Page("/console/users/{user_id:uuid}", (ADMIN,), users.show, users.change),
        Page(
            "/console/configuration",
            (ADMIN,),
            configuration.show,
            configuration.change,
            "Configuration",
            _SET_UP,
        ),
        Page("/console/account", EVERYBODY, account.show, account.change, "Account", _SET_UP),
    ]
    if breakable:
        pages.append(Page("/console/break-it", (ADMIN,), break_it.show, break_it.act, "Break it", _TRY))
    return pages
