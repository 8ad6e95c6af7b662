"""The pages of users, for administrators."""

import html
import re
from typing import Any

import pytest

from db.users import Role
from tests.api.console.browsers import Browser, sign_in, signed_in
from tests.makers import visitor, work


@pytest.fixture
def admin(client):
    return signed_in(client, Role.ADMIN)[0]


def path(who) -> str:
    return f"/console/users/{who.user['id']}"


def change(browser, who, part: str, **fields: str):
    return browser.post(path(who), {"part": part, **fields})


def account(client, who) -> dict[str, Any]:
    return visitor(client, Role.ADMIN).get(f"/admin/users/{who.user['id']}").json["data"]


def test_users_are_found_by_a_part_of_their_address(client, admin):
    vendor, customer = visitor(client, Role.VENDOR), visitor(client)
    found = admin.get(f"/console/users?q={vendor.user['email'][:8]}&role=VENDOR&active=true").text
    assert path(vendor) in found
    assert path(customer) not in found
    assert "No user matches." in admin.get("/console/users?q=nobody-has-this").text


def test_an_account_is_created_with_any_role(client, admin):
    fields = {"name": "Ada", "email": "ada@example.org", "password": "four boats at dawn", "role": "ADMIN"}
    made = admin.post("/console/users/new", {**fields, "emailVerified": "yes"})
    assert made.status_code == 303
    assert "ada@example.org" in admin.get(made.headers["location"]).text
    again = admin.post("/console/users/new", fields)
    assert again.status_code == 409
    assert "four boats" not in again.text


def test_only_what_differs_is_changed(client, admin):
    who = visitor(client)
    same = {"name": who.user["name"], "email": who.user["email"]}
    change(admin, who, "account", **same)
    assert "Nothing was changed." in admin.get(path(who)).text
    change(admin, who, "account", **{**same, "name": "Jo"}, emailVerified="yes")
    assert (account(client, who)["name"], account(client, who)["emailVerified"]) == ("Jo", True)
    change(admin, who, "account", name="Jo", email="new@example.org")
    assert account(client, who)["emailVerified"] is False
    refused = change(admin, who, "account", name="Kept", email="no address")
    assert refused.status_code == 400
    assert "Kept" in refused.text
    assert 'id="email-fault"' in refused.text


def test_a_suspended_user_is_out_at_once_until_reactivated(client, admin):
    browser, who = signed_in(client)
    change(admin, who, "suspend")
    assert browser.get("/console").status_code == 303
    assert "suspended" in admin.get(path(who)).text
    change(admin, who, "reactivate")
    assert sign_in(browser, who).status_code == 303
    assert browser.get("/console").status_code == 200


def test_a_role_is_changed(client, admin):
    who = visitor(client)
    assert change(admin, who, "role", role="VENDOR").status_code == 303
    assert account(client, who)["role"] == "VENDOR"


def test_the_last_administrator_cannot_demote_themselves(client):
    browser, me = signed_in(client, Role.ADMIN)
    refused = change(browser, me, "role", role="CUSTOMER")
    assert refused.status_code == 409
    assert "administrator" in refused.text


def test_an_account_is_closed_only_by_its_address(client, admin):
    who = visitor(client)
    assert change(admin, who, "close", confirm="yes").status_code == 400
    assert account(client, who)["active"]
    assert change(admin, who, "close", confirm=who.user["email"]).status_code == 303
    work()
    page = admin.get(path(who)).text
    assert who.user["email"] not in page
    assert "Save the account" not in page


def test_one_session_of_a_user_is_ended_and_then_all(client, admin):
    browser, who = signed_in(client)
    other = Browser(client)
    sign_in(other, who)
    ends = re.findall(rf"{path(who)}/sessions/[0-9a-f-]+", admin.get(path(who)).text)
    # The newest first; the oldest is that of the maker of this user.
    assert len(ends) == 3
    assert admin.post(ends[0]).status_code == 303
    assert other.get("/console").status_code == 303
    assert browser.get("/console").status_code == 200
    admin.post(f"{path(who)}/sessions")
    assert browser.get("/console").status_code == 303
    assert "Nobody is signed in" in admin.get(path(who)).text


def test_a_page_shows_what_was_done_to_the_account(client, admin):
    who = visitor(client)
    change(admin, who, "role", role="VENDOR")
    work()
    assert "admin.user.role" in html.unescape(admin.get(path(who)).text)


@pytest.mark.parametrize("page", ["/console/users", "/console/users/new", "/console/configuration"])
def test_nobody_else_sees_these_pages(client, page):
    browser, _ = signed_in(client, Role.VENDOR)
    if page != "/console/users/new":
        assert browser.get(page).status_code == 403
    assert page not in browser.get("/console").text
    assert Browser(client).get(page).status_code == 303


def test_a_user_that_is_not_there_is_not_found(admin):
    assert admin.get("/console/users/019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e").status_code == 404
