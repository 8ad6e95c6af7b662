"""From an account's opening to its last session, in a browser."""

import email
import email.policy
import io
import re

from PIL import Image

from tests.browser.driver import expect
from tests.browser.forms import registered, send
from tests.makers import PASSWORD, address, text_of, until

NEW_PASSWORD = "quite another long pass phrase"


def mailed_link(stack, to: str, path: str) -> str:
    """The link to a page in a mail to this address, as soon as it is there."""

    def found() -> str | None:
        for file in (stack.directory / "mail").glob("*.eml"):
            mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
            if mail["To"] == to and (link := re.search(rf"http\S+({path}\?token=[\w-]+)", text_of(mail))):
                return link[1]
        return None

    return until(found)


def test_an_account_is_opened_confirmed_left_found_again(visitor, stack):
    me, mine = visitor(), address()
    page = me.open("/console/register")
    send(page, "Open the account", name="Jo Miller", email=mine, password=PASSWORD)
    expect(page.get_by_role("heading", name="Hello, Jo")).to_be_visible()
    expect(page.get_by_text("is not confirmed yet")).to_be_visible()
    me.open(mailed_link(stack, mine, "/verify-email"))
    send(page, "Confirm")
    expect(page.get_by_text("Your address is confirmed")).to_be_visible()
    me.open("/console")
    expect(page.get_by_text("is not confirmed yet")).to_have_count(0)
    send(page, "Sign out")
    expect(page.get_by_text("You are signed out.")).to_be_visible()

    send(page, "Sign in", email=mine, password="not the password")
    expect(page.get_by_role("alert")).to_be_visible()
    me.expect_fault("status of 401")
    send(page, "Sign in", password=PASSWORD)
    expect(page.get_by_role("heading", name="Hello, Jo")).to_be_visible()


def test_a_forgotten_password_is_replaced_by_the_mailed_page(visitor, stack):
    me, mine = registered(visitor)
    other = visitor()
    page = other.open("/console/forgot-password")
    send(page, "Mail the link", email=mine)
    expect(page.get_by_text("a link was mailed")).to_be_visible()
    other.open(mailed_link(stack, mine, "/reset-password"))
    send(page, "Change the password", newPassword="12345678")
    expect(page.locator(".field", has_text="New password").locator(".fault")).to_be_visible()
    other.expect_fault("status of 400")
    send(page, "Change the password", newPassword=NEW_PASSWORD)
    expect(page.get_by_text("Your password is changed")).to_be_visible()

    # The session from before has ended with the old password: its live page notices by itself.
    expect(me.page.get_by_role("heading", name="Sign in")).to_be_visible()
    send(me.page, "Sign in", email=mine, password=NEW_PASSWORD)
    expect(me.page.get_by_role("heading", name="Hello, Jo")).to_be_visible()


def test_a_session_is_ended_from_another_browser(visitor):
    me, mine = registered(visitor)
    elsewhere = visitor()
    elsewhere.context.set_extra_http_headers({"User-Agent": "A library's computer"})
    page = elsewhere.open("/console/sign-in?next=/console/account")
    send(page, "Sign in", email=mine, password=PASSWORD)
    expect(page.get_by_role("heading", name="Jo Miller")).to_be_visible()

    mine_here = me.open("/console/account")
    row = mine_here.get_by_role("row").filter(has_text="A library's computer")
    row.get_by_role("button").click()
    expect(mine_here.get_by_text("That session has ended.")).to_be_visible()
    expect(row).to_have_count(0)
    elsewhere.open("/console/account")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_own_account_is_changed(visitor):
    me, _ = registered(visitor)
    page = me.open("/console/account")
    send(page, "Save the profile", name="Jo Miller-Smith", phone="030 123")
    expect(page.locator(".field", has_text="Phone").locator(".fault")).to_be_visible()
    me.expect_fault("status of 400")
    send(page, "Save the profile", phone="+4930123456")
    expect(page.get_by_role("heading", name="Jo Miller-Smith")).to_be_visible()

    page.locator("#theme").select_option("dark")
    page.get_by_label("a payment completes").uncheck()
    send(page, "Save the preferences", timezone="Europe/Vienna")
    expect(page.get_by_text("Your preferences are saved.")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_label("a payment completes")).not_to_be_checked()

    send(page, "Change the password", currentPassword=PASSWORD, newPassword=NEW_PASSWORD)
    expect(page.get_by_text("Your password is changed.")).to_be_visible()


def test_a_picture_is_shown_until_it_is_removed(visitor):
    me, _ = registered(visitor)
    page = me.open("/console/account")
    page.get_by_label("PNG, JPEG or WebP").set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("must be a PNG, JPEG or WebP")
    me.expect_fault("status of 415")
    page.get_by_label("PNG, JPEG or WebP").set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": png()}
    )
    page.get_by_role("button", name="Upload").click()
    picture = page.locator(".identity img")
    expect(picture).to_be_visible()
    assert picture.evaluate("(img) => img.decode().then(() => img.naturalWidth)") == 8
    page.get_by_role("button", name="Remove the picture").click()
    expect(picture).to_have_count(0)


def png() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(content, "PNG")
    return content.getvalue()
