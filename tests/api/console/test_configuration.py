"""The page of the configuration."""

import html
import re
from typing import Any

import pytest

from db import config
from db.users import Role
from tests.api.console.browsers import signed_in
from tests.makers import visitor

PAGE = "/console/configuration"


@pytest.fixture
def admin(client):
    return signed_in(client, Role.ADMIN)[0]


def form(browser, **changes: str) -> dict[str, str]:
    """The form as the page shows it, with what somebody types."""
    text = browser.get(PAGE).text
    fields = {
        name: html.unescape(value)
        for name, value in re.findall(r'name="(was\.[^"]+|version)" value="([^"]*)"', text)
    }
    for name, value in re.findall(r'<input id="([^"]+)" name="[^"]+" type="\w+" value="([^"]*)"', text):
        fields[name] = html.unescape(value)
    return {**fields, **{name.replace("_", "."): value for name, value in changes.items()}}


def values() -> dict[str, Any]:
    return {setting.key: setting.value for setting in config.all_settings()}


def test_each_key_is_shown_with_its_description_and_range(admin):
    text = html.unescape(admin.get(PAGE).text)
    for setting in config.all_settings():
        assert setting.key in text
        if setting.key != "maintenance.readOnly":
            assert setting.description.replace("`", "") in text
    assert "a whole number from 0 to 5000" in text
    assert "a number from 0 to 1" in text
    assert "an amount from 0.01 to 99999999.99, or empty for none" in text


def test_several_values_are_saved_together_and_nothing_else(admin):
    sent = form(admin, psp_latencyMs="250", payments_dailyLimit="5")
    # Somebody else changes others meanwhile.
    admin.post(PAGE, form(admin, psp_approvalRate="0.5", **{"queues.paused.mail": "yes"}))
    result = admin.post(PAGE, sent)
    assert result.status_code == 303
    shown = html.unescape(admin.get(PAGE).text)
    assert "Saved: psp.latencyMs, payments.dailyLimit." in shown
    assert "Changed" in shown
    now = values()
    assert (now["psp.latencyMs"], now["payments.dailyLimit"], now["psp.approvalRate"]) == (250, 5, 0.5)
    assert now["queues.paused"] == ["mail"]
    admin.post(PAGE, form(admin, payments_dailyLimit=""))
    assert values()["payments.dailyLimit"] is None


def test_of_two_who_pause_queues_at_once_none_loses_a_change(admin):
    sent = form(admin, psp_latencyMs="250", **{"queues.paused.mail": "yes"})
    admin.post(PAGE, form(admin, **{"queues.paused.payments": "yes"}))
    result = admin.post(PAGE, sent)
    assert result.status_code == 412
    assert values()["queues.paused"] == ["payments"]
    # The page shows what is paused now, and the next form is based on it.
    assert 'name="queues.paused.payments" value="yes" checked' in result.text
    assert 'name="queues.paused.mail" value="yes">' in result.text


def test_of_a_refused_form_nothing_is_saved_and_nothing_lost(admin):
    sent = form(admin, psp_latencyMs="9000", payments_maxAmount="100")
    result = admin.post(PAGE, sent)
    assert result.status_code == 400
    assert 'id="psp.latencyMs-fault"' in result.text
    assert 'value="9000"' in result.text
    assert values()["payments.maxAmount"] == "99999999.99"
    assert admin.post(PAGE, form(admin, psp_latencyMs="soon")).status_code == 400


def test_what_no_page_can_have_shown_is_no_fault_of_ours(admin):
    result = admin.post(PAGE, {"was.psp.latencyMs": "{", "psp.latencyMs": "soon"})
    assert result.status_code == 400


def test_without_a_difference_nothing_is_changed(admin):
    admin.post(PAGE, form(admin))
    assert "Nothing was changed." in admin.get(PAGE).text


def test_maintenance_is_shown_on_every_page_until_it_ends(client, admin):
    customer, who = signed_in(client)
    assert 'id="maintenance"' not in customer.get("/console").text
    admin.post(PAGE, {"maintenance.readOnly": "true"})
    for browser in (customer, admin):
        assert 'id="maintenance"' in browser.get("/console/account").text
    assert who.post("/payments", {"type": "payment", "amount": "1"}).status_code == 503
    assert visitor(client).get("/maintenance").json["data"] == {"readOnly": True}
    assert admin.post(PAGE, {"maintenance.readOnly": "false"}).status_code == 303
    assert 'id="maintenance"' not in customer.get("/console").text
