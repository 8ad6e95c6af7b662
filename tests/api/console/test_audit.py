"""An administrator sees the audit log, its chain and its seal; pages for operators are for nobody else."""

import json
import re

import pytest

from db import audit_log, postgres
from tests import makers
from tests.api.console.browsers import sign_in
from tests.makers import visitor, work


@pytest.mark.parametrize("path", ["jobs", "reviews", "differences", "audit", "audit?verify=1"])
def test_a_page_for_operators_shows_that_there_is_nothing_to_do(admin, path):
    result = admin.get(f"/console/{path}")
    assert result.status_code == 200, result.text


@pytest.mark.parametrize("path", ["jobs", "reviews", "differences", "audit", "audit/export"])
def test_a_page_for_operators_is_refused_to_others(client, browser, path):
    sign_in(browser, visitor(client))
    assert browser.get(f"/console/{path}").status_code == 403


def test_the_chain_is_drawn_to_its_seal(admin):
    makers.payment()
    work()
    page = admin.get("/console/audit").text
    assert "<strong>Seal</strong>" in page
    assert "payments.payment.create" in page
    assert "Intact." in admin.get("/console/audit?verify=1").text


def test_the_first_broken_link_is_marked(admin):
    makers.payment()
    work()
    entries = list(audit_log.AuditLog.select().order_by(audit_log.AuditLog.seq))
    with makers.triggers_disabled():
        postgres.rows("UPDATE admin.audit_logs SET details = '{}' WHERE id = %s", entries[2].id)
    page = admin.get("/console/audit?verify=1").text
    assert "Broken:" in page
    marked = re.findall(r'<li class="broken">\s*<strong>(\d+)</strong>', page)
    assert marked == [str(entries[2].seq)]


def test_the_log_is_filtered(admin):
    payment = makers.payment()
    work()
    page = admin.get(
        f"/console/audit?action=payments.payment.begin&resourceId={payment.id}&from=2026-01-01"
    ).text
    assert "payments.payment.begin</a>" in page
    assert "payments.payment.complete</a>" not in page
    refused = admin.get("/console/audit?action=nope&to=soon")
    assert refused.status_code == 400
    assert refused.text.count('aria-invalid="true"') == 2


def test_the_export_is_downloaded(admin):
    makers.payment()
    work()
    result = admin.get("/console/audit/export?after=0")
    assert result.headers["Content-Type"] == "application/x-ndjson"
    assert "attachment" in result.headers["Content-Disposition"]
    assert "seal" in json.loads(result.text.splitlines()[-1])
