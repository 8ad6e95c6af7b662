"""The live board shows every process, queue and invariant, and plots the last hour."""

import re

import pytest

from db import heartbeats, postgres, redis
from db.users import Role
from tests import makers
from tests.api.console.browsers import Browser, signed_in
from tests.makers import work


@pytest.fixture
def admin(client) -> Browser:
    return signed_in(client, Role.ADMIN)[0]


def test_it_shows_processes_queues_invariants_and_plots(admin, stores):
    makers.payment(simulate="blackout")
    work()
    heartbeats.beat(redis.connect(stores["REDIS_URL"]), ["relay"])
    postgres.rows(
        "INSERT INTO admin.samples (at, counted, requests, errors, p95_ms, settled, lag_ms) SELECT at, true, 30, 0,"
        " 12.5, 15, 40 FROM generate_series(date_bin('15 s', now(), '2000-01-01') - interval '10 min', now(),"
        " interval '15 s') AS at"
    )
    page = admin.get("/console/board").text
    assert re.search(r">relay</td>|<td>relay\b", page)
    assert page.count("<svg") == 5
    assert 'href="/console/jobs?queue=psp&amp;state=dead"' in page
    assert re.search(r'href="/console/reviews"><strong>1</strong> need review', page)
    assert "charged once" in page
    assert "it has not been checked yet" in page
    assert re.search(r'<td class="number">120</td>', page), "the requests of a minute, in the table"


def test_a_time_without_samples_is_a_gap(admin):
    postgres.rows("DELETE FROM admin.samples")
    page = admin.get("/console/board").text
    assert "NaN" not in page
    assert page.count("<tr><td>") >= 60
    assert '<td class="number">–</td>' in page


def test_it_is_for_administrators(client):
    customer, _who = signed_in(client, Role.CUSTOMER)
    assert customer.get("/console/board").status_code == 403
