"""Plots: drawn without scripts, the same for the same figures, safe whatever the names are."""

import re
from collections.abc import Callable

import pytest

from api.console import charts

LABELS = ["10:00", "10:01", "10:02"]
_PLOTS = (("requests", charts.line), ("more", charts.bars))


def _requests(name: str, draw: Callable[..., str]) -> str:
    return draw(name, LABELS, requests=[1, None, 3], errors=[0, 0, 1])


@pytest.mark.parametrize("draw", [charts.line, charts.bars])
def test_a_plot_asks_no_other_host_and_runs_no_script(draw):
    svg = _requests("requests", draw)
    assert "<script" not in svg
    assert not re.search(r"(href|src|url\()=?[\"'(]?https?:", svg)


def test_no_id_stands_in_two_plots_of_a_page():
    first, second = (set(re.findall(r'\bid="([^"]+)"', _requests(name, draw))) for name, draw in _PLOTS)
    assert first
    assert not first & second


def test_the_same_figures_give_the_same_plot():
    assert charts.line("lag", LABELS, lag=[1, 2, 3]) == charts.line("lag", LABELS, lag=[1, 2, 3])


def test_a_name_is_escaped():
    assert "<b>" not in charts.bars("x", ["<b>"], count=[1])


def test_figures_that_are_all_missing_are_drawn():
    assert charts.line("lag", LABELS, lag=[None, None, None]).startswith("<svg")
