"""The page that breaks the stack sends payments, and shows that each has ended and was charged once."""

import json
import os
import re

import pytest
from falcon.testing import TestClient

from api import demo_users
from api.app import create_app
from api.console.pages.break_it import SCENARIOS
from api.security.passwords import Passwords
from db.users import Role
from tests.api.console.browsers import Browser, sign_in
from tests.makers import visitor, work

TOTAL = sum(each.payments for each in SCENARIOS)


@pytest.fixture
def pipe(tmp_path):
    (tmp_path / "pids.json").write_text(json.dumps({"psp.1": 2, "web.1": 1}))
    os.mkfifo(tmp_path / "faults")
    pipe = os.open(tmp_path / "faults", os.O_RDWR | os.O_NONBLOCK)
    yield pipe
    os.close(pipe)


@pytest.fixture
def client(database, settings, tmp_path, pipe) -> TestClient:
    demo_users.seed_demo_users(
        Passwords(pepper=settings.password_pepper, rounds=settings.bcrypt_rounds), app_env="test"
    )
    return TestClient(create_app(settings.model_copy(update={"paywright_stack": str(tmp_path)})))


@pytest.fixture
def browser(client) -> Browser:
    browser = Browser(client)
    sign_in(browser, visitor(client, Role.ADMIN))
    return browser


def tiles(page: str) -> dict[str, str]:
    found = re.findall(r'<div class="tile[^"]*"><strong>(\d+).*?</strong> ([^<]+)</div>', page)
    return {label: number for number, label in found}


def test_every_payment_of_a_run_ends_and_is_charged_once(browser):
    assert browser.post("/console/break-it", {"act": "send"}).status_code == 303
    page = browser.get("/console/break-it").text
    assert f"{TOTAL} payments are accepted." in page
    assert tiles(page)["ended"] == "0"
    work()
    page = browser.get("/console/break-it").text
    declined = sum(each.payments for each in SCENARIOS if each.simulate.startswith("decline"))
    assert tiles(page) == {
        "ended": str(TOTAL),
        "completed": str(TOTAL - declined),
        "failed": str(declined),
        "charges": str(TOTAL - declined),
        "charged twice": "0",
        "differ from its ledger": "0",
    }
    assert f"All {TOTAL} payments have ended" in page


def test_a_button_has_the_launcher_kill_a_process(browser, pipe):
    page = browser.get("/console/break-it").text
    assert 'aria-label="Kill psp.1"' in page
    assert "web.1" not in page
    browser.post("/console/break-it", {"act": "kill", "process": "psp.1"})
    assert json.loads(os.read(pipe, 1000)) == {"fault": "kill", "process": "psp.1", "seconds": None}
    assert "psp.1 is killed." in browser.get("/console/break-it").text


def test_a_job_dies_and_is_retried_without_a_shell(browser):
    assert browser.post("/console/break-it", {"act": "killJob"}).status_code == 303
    work()
    page = browser.get("/console/break-it").text
    assert "A job is dead" in page
    assert '<a href="/console/jobs?state=dead">1 dead job</a>' in page
    [id] = re.findall(r'name="id" value="([^"]+)"', browser.get("/console/jobs?state=dead").text)[:1]
    browser.post("/console/jobs", {"act": "retry", "id": id})
    work()
    assert "dead job" not in browser.get("/console/break-it").text
    assert "badge completed" in browser.get("/console/payments").text


def test_the_psp_is_set_or_the_page_says_what_is_wrong(browser):
    form = {"act": "psp", "psp.approvalRate": "0.5", "psp.latencyMs": "200"}
    assert browser.post("/console/break-it", form).status_code == 303
    assert 'value="0.5"' in browser.get("/console/break-it").text
    refused = browser.post("/console/break-it", form | {"psp.approvalRate": "7"})
    assert refused.status_code == 400
    assert 'role="alert"' in refused.text


def test_it_is_for_administrators(client):
    customer = Browser(client)
    sign_in(customer, visitor(client))
    assert customer.get("/console/break-it").status_code == 403
    assert customer.post("/console/break-it", {"act": "send"}).status_code == 403
    assert "Break it" not in customer.get("/console").text
