"""The routes of the console: each page, the roles that it is for, and its entry in the navigation."""

from dataclasses import dataclass
from typing import Any

from api.console.assets import Assets
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
from api.console.visits import Action, Console, Form, View

CUSTOMER, VENDOR, ADMIN = "CUSTOMER", "VENDOR", "ADMIN"
EVERYBODY = (CUSTOMER, VENDOR, ADMIN)
_WATCH, _WORK, _SET_UP, _TRY = "Watch", "Work", "Set up", "Try"


@dataclass(frozen=True)
class Page:
    """A page: path, resource, the roles that it is for (none: visitors), its label in the navigation.

    `group` is what an administrator, who has many pages, finds it under.
    """

    path: str
    resource: Any
    roles: tuple[str, ...] = ()
    label: str = ""
    group: str = ""


def routes(console: Console) -> dict[str, Any]:
    """Returns the resources of the console by their paths; adds the pages to its navigation."""
    pages = [
        # Leads an administrator to the board.
        Page("/console", home.Home(console), (CUSTOMER, VENDOR), "Overview"),
        Page("/console/sign-in", Form(console, access.show_sign_in, access.sign_in, public=True)),
        Page("/console/register", Form(console, access.show_register, access.register, public=True)),
        Page(
            "/console/forgot-password",
            Form(console, access.show_forgot_password, access.mail_reset_link, public=True),
        ),
        Page("/verify-email", Form(console, access.show_verify_email, access.verify_email, public=True)),
        Page(
            "/reset-password", Form(console, access.show_reset_password, access.reset_password, public=True)
        ),
        Page("/console/pay", Form(console, paying.show_pay, paying.pay), (CUSTOMER,), "Pay"),
        Page(
            "/console/pay/{request_id:uuid}",
            Form(console, paying.show_request_to_pay, paying.pay_request),
            (CUSTOMER,),
        ),
        Page("/console/requests", View(console, paying.show_requests), (VENDOR,), "Requests"),
        Page("/console/requests/new", Form(console, paying.show_new_request, paying.make_request), (VENDOR,)),
        Page(
            "/console/requests/{request_id:uuid}",
            Form(console, paying.show_request, paying.change_request),
            (VENDOR,),
        ),
        Page("/console/board", View(console, board.show), (ADMIN,), "Board", _WATCH),
        Page("/console/payments", View(console, payments.show_list), EVERYBODY, "Payments", _WATCH),
        Page("/console/payments/{payment_id:uuid}", Form(console, payments.show, payments.change), EVERYBODY),
        Page("/console/history", View(console, payments.show_history), EVERYBODY, "History", _WATCH),
        Page("/console/reports", View(console, reports.show), (VENDOR, ADMIN), "Reports", _WATCH),
        Page("/console/audit", View(console, audit.show), (ADMIN,), "Audit", _WATCH),
        Page("/console/reviews", View(console, reviews.show_list), (ADMIN,), "Reviews", _WORK),
        Page("/console/reviews/{payment_id:uuid}", Form(console, reviews.show, reviews.resolve), (ADMIN,)),
        Page("/console/differences", View(console, reviews.show_differences), (ADMIN,), "Differences", _WORK),
        Page("/console/jobs", jobs.Jobs(console), (ADMIN,), "Jobs", _WORK),
        Page("/console/jobs/{job_id:uuid}", jobs.OneJob(console), (ADMIN,)),
        Page("/console/users", users.Users(console), (ADMIN,), "Users", _SET_UP),
        Page("/console/users/new", users.NewUser(console), (ADMIN,)),
        Page("/console/users/{user_id:uuid}", users.OneUser(console), (ADMIN,)),
        Page(
            "/console/configuration", configuration.Configuration(console), (ADMIN,), "Configuration", _SET_UP
        ),
        Page("/console/account", Form(console, account.show, account.change), EVERYBODY, "Account", _SET_UP),
    ]
    if console.breakable:
        pages.append(Page("/console/break-it", break_it.BreakIt(console), (ADMIN,), "Break it", _TRY))
    console.pages = pages
    # What is no page: the responses of forms, files, the event stream.
    others: dict[str, Any] = {
        "/": home.Root(),
        "/console/assets/{name}": Assets(),
        "/console/events": home.Events(console),
        "/console/sign-out": Action(console, access.sign_out, public=True),
        "/console/account/avatar": Action(console, account.upload_avatar),
        "/console/account/sessions": Action(console, account.end_sessions),
        "/console/account/sessions/{session_id:uuid}": Action(console, account.end_session),
        "/console/audit/export": View(console, audit.download),
        "/console/users/{user_id:uuid}/sessions": users.UserSessions(console),
        "/console/users/{user_id:uuid}/sessions/{session_id:uuid}": users.UserSession(console),
        "/console/theme": Action(console, access.set_theme, public=True),
    }
    if console.environment != "production":
        others["/console/sign-in/demo"] = Action(console, access.sign_in_as_demo_user, public=True)
    return {each.path: each.resource for each in pages} | others
