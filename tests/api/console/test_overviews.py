"""The pages that show what was: the history, and the first page of each role."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from db.users import Role, User
from tests import makers
from tests.api.console.browsers import Browser, signed_in


def test_the_history_shows_a_day_to_its_end(client):
    browser, customer = signed_in(client)
    makers.payment(User.get_by_id(customer.user["id"]))
    today = datetime.now(UTC).date()
    assert "pending" in browser.get(f"/console/history?from={today}&to={today}").text
    assert "Nothing happened" in browser.get(f"/console/history?to={today - timedelta(days=1)}").text
    assert browser.get("/console/history?from=yesterday").status_code == 400


@pytest.mark.parametrize(
    ("role", "first"), [(Role.CUSTOMER, "/console/pay"), (Role.VENDOR, "/console/requests/new")]
)
def test_the_first_page_leads_each_role_to_what_it_does(client, role, first):
    browser, _ = signed_in(client, role)
    page = browser.get("/console").text
    assert f'class="button" href="{first}"' in page
    assert "There is no" in page


def test_an_administrator_finds_many_pages_in_groups(client):
    groups = {
        role: re.findall(
            r'class="group"[^>]*>([^<]+)', signed_in(client, role)[0].get("/console/account").text
        )
        for role in (Role.ADMIN, Role.CUSTOMER)
    }
    assert groups == {Role.ADMIN: ["Watch", "Work", "Set up"], Role.CUSTOMER: []}


def test_the_event_stream_of_a_session_that_has_ended_is_empty(client):
    assert Browser(client).get("/console/events").status_code == 204
