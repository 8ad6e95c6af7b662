"""The live board: processes, queues, invariants, the PSP, and plots of the last hour."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from api.console.visits import Visit

MINUTES = 60
_SAMPLE_S = 15
_SAMPLES_A_MINUTE = 60 // _SAMPLE_S
_QUARTERS = ("00", "15", "30", "45")

Sample = Mapping[str, Any]

# What is plotted: title, unit, the field of a sample, and what it is divided by.
PLOTS = {
    "requests": ("Requests a second", "", "requests", _SAMPLE_S),
    "errors": ("Errors (5xx) in 15 seconds", "", "errors", 1),
    "p95": ("Response time (p95)", " ms", "p95Ms", 1),
    "settled": ("Settled payments a second", "", "settled", _SAMPLE_S),
    "lag": ("Lag: the longest wait", " s", "lagMs", 1000),
}


def show(visit: Visit) -> None:
    """GET /console/board."""
    samples = visit.api.get("/admin/samples", {"minutes": MINUTES})
    items = samples["items"]
    labels = tuple(map(_label, items))
    visit.show(
        "board.html",
        health=visit.api.get("/admin/health"),
        samples=samples,
        plots=[
            {
                "name": name,
                "title": title,
                "svg": _plot(name, title, unit, labels, tuple(_quotient(each[field], by) for each in items)),
            }
            for name, (title, unit, field, by) in PLOTS.items()
        ],
        table=list(_by_minute(items)),
        invariants=visit.api.get("/admin/invariants"),
        psp=visit.api.get("/admin/psp"),
        config={each["key"]: each["value"] for each in visit.api.get("/admin/config")["items"]},
    )


# Drawing takes longer than all queries of the page, and the figures change four times a minute.
@lru_cache(maxsize=4 * len(PLOTS))
def _plot(
    name: str, title: str, unit: str, labels: tuple[str, ...], values: tuple[float | None, ...]
) -> Markup:
    # Imports pygal, a megabyte that most processes never need.
    from api.console import charts  # noqa: PLC0415

    quarters = [label for label in labels if label[3:] in _QUARTERS]
    return charts.line(name, labels, shown=quarters, unit=unit, **{title: values})


def _by_minute(samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """Yields the figures of each minute, for those who cannot see the plots; None where nothing is known."""
    for start in range(0, len(samples), _SAMPLES_A_MINUTE):
        minute = samples[start : start + _SAMPLES_A_MINUTE]
        known = {
            name: [each[name] for each in minute if each[name] is not None]
            for name in ("requests", "errors", "settled", "p95Ms", "lagMs")
        }
        yield {
            "at": datetime.fromisoformat(minute[0]["at"]).strftime("%H:%M"),
            **{name: sum(known[name]) if known[name] else None for name in ("requests", "errors", "settled")},
            **{name: max(known[name], default=None) for name in ("p95Ms", "lagMs")},
        }


def _label(sample: Sample) -> str:
    """Returns the time of a sample, `12:30` or `12:30:15`.

    Each label differs from the others: pygal draws a label as often as it occurs.
    """
    time: str = sample["at"][11:19]
    return time.removesuffix(":00")


def _quotient(count: int | None, by: int) -> float | None:
    return None if count is None else round(count / by, 2)
