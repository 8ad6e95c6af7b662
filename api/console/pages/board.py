"""The live board: processes, queues, invariants, the PSP, and plots of the last hour."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from api.console import charts
from api.console.visits import Resource, Visit, page

MINUTES = 60
_SAMPLE_S = 15
_SAMPLES_A_MINUTE = 60 // _SAMPLE_S
_QUARTERS = ("00", "15", "30", "45")

Sample = Mapping[str, Any]

# What is plotted: title, unit, and the figure of a sample.
PLOTS: dict[str, tuple[str, str, Callable[[Sample], float | None]]] = {
    "requests": ("Requests a second", "", lambda sample: _a_second(sample["requests"])),
    "errors": ("Errors (5xx) in 15 seconds", "", lambda sample: sample["errors"]),
    "p95": ("Response time (p95)", " ms", lambda sample: sample["p95Ms"]),
    "settled": ("Settled payments a second", "", lambda sample: _a_second(sample["settled"])),
    "lag": ("Lag: the longest wait", " s", lambda sample: _thousandth(sample["lagMs"])),
}


class Board(Resource):
    """GET /console/board."""

    @page()
    def on_get(self, visit: Visit) -> None:
        health = visit.api.get("/admin/health")
        samples = visit.api.get("/admin/samples", {"minutes": MINUTES})
        config = visit.api.get("/admin/config")
        labels = tuple(map(_label, samples["items"]))
        visit.show(
            "board.html",
            health=health,
            samples=samples,
            plots=[
                {
                    "name": name,
                    "title": title,
                    "svg": _plot(name, title, unit, labels, tuple(map(figure, samples["items"]))),
                }
                for name, (title, unit, figure) in PLOTS.items()
            ],
            table=list(_by_minute(samples["items"])),
            invariants=visit.api.get("/admin/invariants"),
            psp=visit.api.get("/admin/psp"),
            config={each["key"]: each["value"] for each in config["items"]},
        )


# Drawing takes longer than all queries of the page, and the figures change four times a minute.
@lru_cache(maxsize=4 * len(PLOTS))
def _plot(
    name: str, title: str, unit: str, labels: tuple[str, ...], values: tuple[float | None, ...]
) -> Markup:
    quarters = [label for label in labels if label[3:] in _QUARTERS]
    return charts.line(name, labels, shown=quarters, unit=unit, **{title: values})


def _by_minute(samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """The figures of each minute, for those who cannot see the plots; None where nothing is known."""
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
    """The time of a sample, in seconds if need be: pygal draws a label once for each time that it occurs."""
    time: str = sample["at"][11:19]
    return time.removesuffix(":00")


def _a_second(count: int | None) -> float | None:
    return None if count is None else round(count / _SAMPLE_S, 2)


def _thousandth(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else round(milliseconds / 1000, 2)
