"""The console's frame: who is signed in, what a form may do, how an error is shown."""

import re
from pathlib import Path

import pytest

from api.console import rendering
from db import live_sessions
from db.users import Role
from tests import makers
from tests.api.console.browsers import Browser, sign_in, signed_in
from tests.makers import PASSWORD, visitor


def test_the_root_leads_to_the_console(browser):
    for path in ("/", "/console/"):
        result = browser.get(path)
        assert (result.status_code, result.headers["location"]) == (303, "/console")


def test_the_way_to_the_console_asks_nobody_who_is_there(browser, client):
    sign_in(browser, visitor(client))
    del browser.cookies["paywright_access"]
    for path in ("/", "/console/"):
        headers = browser.get(path).headers
        assert (headers["referrer-policy"], headers.get("set-cookie")) == ("no-referrer", None)


def test_a_visitor_is_sent_to_the_sign_in_and_back(browser, client):
    result = browser.get("/console?status=failed")
    assert result.headers["location"] == "/console/sign-in?next=%2Fconsole%3Fstatus%3Dfailed"
    result = sign_in(browser, visitor(client), next="/console?status=failed")
    assert (result.status_code, result.headers["location"]) == (303, "/console?status=failed")
    assert "Some One" in browser.get("/console").text


@pytest.mark.parametrize(
    "path",
    [
        *("https://evil.example/", "//evil.example/console", "/api/docs", "/console\\@evil", ""),
        *("/console/a\r\nSet-Cookie: a=b", "/console/\N{SNOWMAN}", "/console/a b", "/console/\0"),
    ],
)
def test_a_sign_in_never_leads_to_another_site(browser, client, path):
    assert sign_in(browser, visitor(client), next=path).headers["location"] == "/console"


def test_a_form_of_too_many_fields_is_the_senders_fault(browser):
    result = browser.post("/console/sign-in", {f"field{number}": "1" for number in range(10_000)})
    assert result.status_code == 400
    assert "at most 200 fields" in result.text


def test_a_wrong_password_shows_the_form_again_without_it(browser, client):
    result = browser.post(
        "/console/sign-in", {"email": visitor(client).user["email"], "password": "wrong-wrong"}
    )
    assert result.status_code == 401
    assert 'role="alert"' in result.text
    assert "wrong-wrong" not in result.text
    assert not browser.cookies


def test_a_password_is_sent_as_it_was_typed(browser):
    typed = {"email": makers.address(), "password": " four boats at dawn "}
    assert browser.post("/console/register", {**typed, "name": "Vera", "role": "VENDOR"}).status_code == 303
    assert (
        browser.post("/console/sign-in", {**typed, "password": typed["password"].strip()}).status_code == 401
    )
    assert browser.post("/console/sign-in", typed).status_code == 303


def test_a_sign_in_ends_the_session_before_it(browser, client):
    sign_in(browser, visitor(client))
    before = dict(browser.cookies)
    sign_in(browser, visitor(client))
    assert browser.get("/console").status_code == 200
    browser.cookies = before
    assert browser.get("/console").headers["location"].startswith("/console/sign-in")


def test_scripts_cannot_read_the_cookies(browser, client):
    cookies = sign_in(browser, visitor(client)).cookies.values()
    assert {(each.http_only, each.same_site, each.path) for each in cookies} == {(True, "Lax", "/console")}


def test_an_expired_access_token_is_refreshed_on_the_way(browser, client):
    sign_in(browser, visitor(client))
    del browser.cookies["paywright_access"]
    assert browser.get("/console").status_code == 200
    assert "paywright_access" in browser.cookies


def test_a_session_that_has_ended_leads_to_the_sign_in(browser, client):
    who = visitor(client)
    sign_in(browser, who)
    who.post("/auth/logout", {"everywhere": True})
    live_sessions._remembered.clear()
    assert browser.get("/console").headers["location"].startswith("/console/sign-in")


def test_signing_out_ends_the_session(browser, client):
    sign_in(browser, visitor(client))
    kept = dict(browser.cookies)
    assert browser.post("/console/sign-out").headers["location"] == "/console/sign-in"
    assert "signed out" in browser.get("/console/sign-in").text
    browser.cookies = kept
    assert browser.get("/console").status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_form_of_another_site_is_refused(browser, client, headers):
    sign_in(browser, visitor(client))
    assert browser.post("/console/sign-out", **headers).status_code == 400
    assert browser.get("/console").status_code == 200


@pytest.mark.parametrize(
    ("path", "role"),
    [("pay", Role.VENDOR), ("requests/new", Role.CUSTOMER), ("users/new", Role.VENDOR)],
)
def test_a_form_is_for_those_who_may_send_it(client, path, role):
    browser, who = signed_in(client, role)
    assert browser.get(f"/console/{path}").status_code == 403
    makers.work()
    assert makers.refusals(who) == 1


def test_an_error_is_a_page(browser, client):
    sign_in(browser, visitor(client))
    result = browser.get("/console/nothing")
    assert (result.status_code, result.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert result.headers["x-request-id"] in result.text


def test_pages_keep_the_security_headers(browser):
    headers = browser.get("/console/sign-in").headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "same-origin")


def test_no_page_has_a_script_or_a_handler_inside(browser):
    text = browser.get("/console/sign-in").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son[a-z]+=|javascript:", text)


def test_what_a_user_wrote_is_escaped(browser, client):
    result = browser.post("/console/sign-in", {"email": '"><b>x', "password": "wrong-wrong"})
    assert "<b>x" not in result.text


def test_an_account_is_opened_and_confirmed(browser, client):
    email = makers.address()
    form = {"name": "Vera", "email": email, "password": PASSWORD, "role": "VENDOR"}
    assert browser.post("/console/register", form).status_code == 303
    makers.work()
    token = makers.mailbox.token()
    assert "Press the button" in browser.get(f"/verify-email?token={token}").text
    assert "confirmed" in browser.post("/verify-email", {"token": token}).text


def test_a_fault_stands_beside_its_field(browser):
    result = browser.post(
        "/console/register",
        {"name": "Vera", "email": "x@example.com", "password": "short", "role": "CUSTOMER"},
    )
    assert result.status_code == 400
    assert 'id="password-fault"' in result.text
    assert 'value="Vera"' in result.text


def test_a_forgotten_password_is_reset_by_the_mailed_link(browser, client):
    who = visitor(client)
    browser.post("/console/forgot-password", {"email": who.user["email"]})
    makers.work()
    token = makers.mailbox.token()
    assert token in browser.get(f"/reset-password?token={token}").text
    result = browser.post("/reset-password", {"token": token, "newPassword": "another horse battery"})
    assert "is changed" in result.text
    assert (
        "unknown, used or expired"
        in browser.post("/reset-password", {"token": token, "newPassword": "another horse battery"}).text
    )


def test_a_demo_user_is_one_click_away_outside_production(make_client):
    assert "Demo users" in Browser(make_client(APP_ENV="development")).get("/console/sign-in").text


def test_the_console_has_a_limit_of_its_own(make_client, database):
    browser = Browser(
        make_client(RATE_LIMIT_API="2/15minutes", RATE_LIMIT_CONSOLE="5/15minutes"), "192.0.2.81"
    )
    statuses = [browser.get("/console/sign-in").status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert browser.get("/console/assets/console.css").status_code == 200


@pytest.mark.parametrize("path", ["/verify-email", "/reset-password"])
def test_pages_that_mails_link_to_are_no_way_past_the_limit(make_client, database, path):
    browser = Browser(make_client(RATE_LIMIT_CONSOLE="2/15minutes"), f"192.0.2.{83 + len(path)}")
    browser.cookies["paywright_refresh"] = "a-guess"
    assert [browser.get(path).status_code for _ in range(3)] == [200, 200, 429]


def test_a_sign_in_through_the_console_counts_as_one(make_client, database):
    browser = Browser(make_client(RATE_LIMIT_AUTH="2/15minutes"), "192.0.2.82")
    form = {"email": makers.address(), "password": "wrong-wrong"}
    results = [browser.post("/console/sign-in", form) for _ in range(3)]
    assert [each.status_code for each in results] == [401, 401, 429]
    assert int(results[-1].headers["retry-after"]) > 0


def test_assets_are_kept_and_asked_for_again(browser):
    first = browser.get("/console/assets/live.js")
    assert first.headers["content-type"].startswith("text/javascript")
    assert browser.get("/console/assets/live.js", If_None_Match=first.headers["etag"]).status_code == 304
    assert browser.get("/console/assets/..%2Fclient.py").status_code == 404


def test_every_table_has_a_caption():
    directory = Path(rendering.__file__).with_name("templates")
    texts = {path.name: path.read_text() for path in directory.glob("*.html")}
    assert [name for name, text in texts.items() if text.count("<table") != text.count("<caption")] == []
