"""What a page says when something fails, and what to do about it."""

from tests.browser.driver import expect
from tests.browser.forms import send, watched
from tests.makers import address


def test_a_page_that_does_not_exist_says_where_to_go_on(visitor):
    page = visitor().open("/console/nothing", status=404)
    expect(page.get_by_text("NOT_FOUND")).to_be_visible()
    page.get_by_role("link", name="The console's first page").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_page_of_another_role_says_who_may_see_it(visitor, signed_in):
    page = visitor(storage_state=signed_in("CUSTOMER")).open("/console/users", status=403)
    expect(page.get_by_text("Sign in as a user whose role allows it.")).to_be_visible()


def test_a_payment_of_somebody_else_does_not_exist(visitor, signed_in):
    unknown = "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"
    visitor(storage_state=signed_in("CUSTOMER")).open(f"/console/pay/{unknown}", status=404)


def test_somebody_who_keeps_guessing_has_to_wait(visitor, stack):
    me, guess = visitor(), {"email": address(), "password": "a guess"}
    page = me.open("/console/sign-in")

    def has_to_wait() -> bool:
        # The alert of the guess before is on the page until the next one is there.
        with page.expect_navigation():
            send(page, "Sign in", **guess)
        return "Try again in" in page.get_by_role("alert").inner_text()

    assert not has_to_wait()
    me.expect_fault("status of 401")
    # Not in the browser: each guess would cost it a page.
    statuses = [stack.http.post("/console/sign-in", data=guess).status_code]
    while statuses[-1] == 401 and len(statuses) < 20:
        statuses.append(stack.http.post("/console/sign-in", data=guess).status_code)
    assert statuses[-1] == 429
    # The first wait is a second, which a slow browser misses; each guess after a wait doubles the next one.
    for _ in range(5):
        if has_to_wait():
            break
        me.expect_fault("status of 401")
    me.expect_fault("status of 429")


def test_a_live_page_says_that_the_server_is_away_until_it_is_back(visitor, signed_in, stack):
    customer = visitor(storage_state=signed_in("CUSTOMER"))
    page = customer.open("/console")
    message = page.locator("#connection")
    with watched(page):
        stack.kill("web.1")
        expect(message).to_contain_text("It is loaded again by itself")
        # Until it has been started again, and the page has tried.
        expect(message).to_be_hidden(timeout=60_000)
    # Only what the page asked for meanwhile: the server may be back before it asks again.
    customer.forget_faults("net::ERR_|status of 503")


def test_without_scripts_everything_works_but_by_itself(visitor):
    page = visitor(java_script_enabled=False).open("/console/sign-in")
    page.get_by_role("button", name="Carl Customer").click()
    page.get_by_role("link", name="Pay", exact=True).first.click()
    send(page, "Pay", amount="3.50")
    expect(page.get_by_role("heading", name="Payment of 3.50 USD")).to_be_visible()
