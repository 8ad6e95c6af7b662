"""The page of one's own account."""

import io
import re

from PIL import Image

from tests import makers
from tests.api.console.browsers import Browser, sign_in, signed_in
from tests.makers import PASSWORD

NEW_PASSWORD = "quite another long pass phrase"


def png() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(content, "PNG")
    return content.getvalue()


def change(browser, part: str, **fields: str):
    return browser.post("/console/account", {"part": part, **fields})


def test_a_profile_is_changed_and_emptied(client):
    browser, me = signed_in(client)
    assert change(browser, "profile", name="Jo", phone="+4930123456", bio="Sells chairs.").status_code == 303
    profile = me.get("/profile").json["data"]
    assert (profile["name"], profile["phone"], profile["bio"]) == ("Jo", "+4930123456", "Sells chairs.")
    change(browser, "profile", name="Jo")
    assert me.get("/profile").json["data"]["phone"] is None


def test_a_refused_profile_is_shown_again(client):
    browser, _ = signed_in(client)
    result = change(browser, "profile", name="Jo", phone="030", bio="Kept")
    assert result.status_code == 400
    assert 'id="phone-fault"' in result.text
    assert "Kept" in result.text


def test_preferences_of_other_clients_are_kept(client):
    browser, me = signed_in(client)
    me.send(
        "PUT", "/profile/preferences", {"columns": ["a"], "locale": "de-AT", "notifications": {"sms": True}}
    )
    change(browser, "preferences", timezone="Europe/Vienna", theme="dark", paymentFailed="yes")
    assert me.get("/profile/preferences").json["data"] == {
        "columns": ["a"],
        "timezone": "Europe/Vienna",
        "theme": "dark",
        "notifications": {"sms": True, "paymentCompleted": False, "paymentFailed": True},
    }
    assert 'data-theme="dark"' in browser.get("/console/account").text


def test_a_new_password_ends_the_other_sessions_but_not_this_one(client):
    browser, me = signed_in(client)
    other = Browser(client)
    sign_in(other, me)
    assert change(browser, "password", currentPassword="wrong", newPassword=NEW_PASSWORD).status_code == 401
    assert change(browser, "password", currentPassword=PASSWORD, newPassword=NEW_PASSWORD).status_code == 303
    assert browser.get("/console/account").status_code == 200
    assert other.get("/console/account").status_code == 303


def test_a_session_is_ended_and_then_all(client):
    browser, me = signed_in(client)
    other = Browser(client)
    sign_in(other, me)
    ends = set(re.findall(r"/console/account/sessions/[0-9a-f-]{36}", browser.get("/console/account").text))
    # The one of the maker of this user, and the other browser's; not this browser's own.
    assert len(ends) == 2
    for path in ends:
        assert browser.post(path).status_code == 303
    assert other.get("/console").status_code == 303
    result = browser.post("/console/account/sessions")
    assert result.headers["location"] == "/console/sign-in"
    assert browser.get("/console/account").status_code == 303


def test_a_verification_is_mailed_again(client):
    browser, me = signed_in(client)
    assert "not confirmed" in browser.get("/console/account").text
    change(browser, "verification")
    makers.work(also="mail.")
    assert makers.mailbox[-1]["To"] == me.user["email"]


def test_a_part_that_does_not_exist_changes_nothing(client):
    browser, _ = signed_in(client)
    assert change(browser, "nothing").status_code == 303


def test_a_picture_is_uploaded_shown_removed(client):
    browser, me = signed_in(client)
    result = browser.upload("/console/account/avatar", "avatar", b"no picture")
    assert result.status_code == 415
    assert "PNG, JPEG or WebP" in result.text
    assert browser.upload("/console/account/avatar", "avatar", png()).status_code == 303
    [picture] = re.findall(r'src="(/media/avatars/[^"]+)"', browser.get("/console/account").text)
    assert browser.get(picture).status_code == 200
    change(browser, "avatar")
    assert me.get("/profile").json["data"]["avatarUrl"] is None
