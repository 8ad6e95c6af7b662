"""docs/testing-an-integration.md says how each scenario of the stub ends."""

import re
from pathlib import Path

import pytest

from actors.psp import stub
from tests import makers
from tests.makers import work

PAGE = Path(__file__).parents[2] / "docs/testing-an-integration.md"
ROW = re.compile(r"^\| `([\w:]+)` \| `(\w+)` \|(?: `(\w+)`)? \|", re.MULTILINE)
OUTCOMES = ROW.findall(PAGE.read_text())


def test_the_page_has_every_scenario_of_the_stub():
    scenarios = re.findall(r"^ {4}(\w+)(?:\[:<code>\])?  ", stub.__doc__ or "", re.MULTILINE)
    assert len(scenarios) > 5
    assert {simulate.partition(":")[0] for simulate, _, _ in OUTCOMES} == set(scenarios)


@pytest.mark.parametrize(("simulate", "status", "code"), OUTCOMES)
def test_a_scenario_ends_as_the_page_says(database, simulate, status, code):
    payment = makers.payment(simulate=simulate)
    work()
    ended = makers.reload(payment)
    assert (ended.status, ended.failure_code or "") == (status, code)
