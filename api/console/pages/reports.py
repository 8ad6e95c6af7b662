"""Reports: payments by period, currency and status, as plots, as tables and as a file."""

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from markupsafe import Markup

from api.console.visits import Visit

# Drawing a plot takes 5 to 15 ms, and a vendor may have payments in each of 150 currencies.
_MAX_PLOTS = 10
# In the order of the plot's colours.
_STATUSES = ("completed", "failed", "processing", "pending", "cancelled")


def show(visit: Visit) -> None:
    """GET /console/reports."""
    query = visit.query("from", "to", "groupBy")
    if visit.req.get_param("format") == "csv":
        visit.pass_on("/payments/reports", {**query, "format": "csv"})
        return
    report, error = visit.search("/payments/reports", query)
    plots = _plots(report) if report else {}
    visit.show("reports.html", report=report, plots=plots, query=query, error=error)


def _plots(report: Mapping[str, Any]) -> dict[str, Markup]:
    """Returns a plot of the counts for each of the currencies with the most payments."""
    totals = sorted(report["totals"], key=lambda total: total["count"], reverse=True)
    plotted = {total["currency"] for total in totals[:_MAX_PLOTS]}
    by_currency = itemgetter("currency")
    series = sorted((entry for entry in report["series"] if entry["currency"] in plotted), key=by_currency)
    return {currency: _plot(currency, list(entries)) for currency, entries in groupby(series, by_currency)}


def _plot(currency: str, entries: list[Mapping[str, Any]]) -> Markup:
    # Imports pygal, a megabyte that most processes never need.
    from api.console import charts  # noqa: PLC0415

    periods = sorted({entry["period"] for entry in entries})
    counts = {(entry["period"], entry["status"]): entry["count"] for entry in entries}
    used = {entry["status"] for entry in entries}
    series: Any = {
        status: [counts.get((period, status), 0) for period in periods]
        for status in _STATUSES
        if status in used
    }
    return charts.bars(f"report-{currency}", periods, **series)
