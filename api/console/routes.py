"""The routes of the console: each page, the roles that it is for, and its entry in the navigation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from api.console.visits import Action, Console, Form, View
from db.users import Role

ADMIN, VENDOR, CUSTOMER = Role
EVERYBODY = tuple(Role)
_WATCH, _WORK, _SET_UP, _TRY = "Watch", "Work", "Set up", "Try"
_PAYMENT, _REQUEST = "{payment_id:uuid}", "{request_id:uuid}"


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


def routes(console: Console) -> dict[str, Any]:
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
