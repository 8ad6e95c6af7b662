"""What must be reached, what would be good, and where it stands in the figures of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.resources import POSTGRES, VALKEY

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A budget: at least `at_least`, or at most `at_most`."""

    name: str
    must_be: float
    goal_is: float | None
    unit: str
    read: Callable[[Figures], Sequence[float]]
    at_least: bool = False

    @property
    def must(self) -> str:
        """Returns what must be reached, as a text."""
        return self._text(self.must_be)

    @property
    def goal(self) -> str:
        """Returns the goal, as a text."""
        return "" if self.goal_is is None else self._text(self.goal_is)

    def verdict(self, value: float) -> str:
        """Returns what this value reaches."""
        if self.goal_is is not None and self._reaches(value, self.goal_is):
            return "goal reached"
        return "reached" if self._reaches(value, self.must_be) else "**not reached**"

    def _reaches(self, value: float, wanted: float) -> bool:
        return value >= wanted if self.at_least else value <= wanted

    def _text(self, value: float) -> str:
        return f"{'≥' if self.at_least else '≤'} {value:g}{self.unit}"


def _ratio(call: str) -> Callable[[Figures], Sequence[float]]:
    def read(figures: Figures) -> Sequence[float]:
        programs = figures.get("calls", {}).get(call, {})
        pairs = zip(programs.get("ours", ()), programs.get("peer", ()), strict=False)
        return [ours["rate"] / peer["rate"] for ours, peer in pairs]

    return read


def _noise(figures: Figures) -> Sequence[float]:
    programs = figures.get("calls", {}).get("me", {})
    pairs = zip(programs.get("ours", ()), programs.get("ours, again", ()), strict=False)
    return [max(first["rate"] / second["rate"], second["rate"] / first["rate"]) for first, second in pairs]


def _settling(name: str) -> Callable[[Figures], Sequence[float]]:
    # The last round counts statements; its times are not those of the others.
    return lambda figures: [run[name] for run in figures.get("settling", ())[:-1]]


def _statements(figures: Figures) -> Sequence[float]:
    return [run["statements"] for run in figures.get("settling", ())[-1:]]


def _cpu(figures: Figures) -> Sequence[float]:
    return [sum(run["cpu"].values()) for run in figures.get("settling", ())[:-1]]


def _latency(step: str) -> Callable[[Figures], Sequence[float]]:
    return lambda figures: figures.get("latency", {}).get(step, ())


def _idle(figures: Figures) -> Sequence[float]:
    return [sum(figures["idle"].values())] if "idle" in figures else []


def _resident(kind: str) -> Callable[[Figures], Sequence[float]]:
    def read(figures: Figures) -> Sequence[float]:
        found = {
            name: sizes
            for name, sizes in figures.get("resident", {}).items()
            if name not in (POSTGRES, VALKEY)
        }
        sizes = [size for name, each in found.items() for size in each if (name == "web") == (kind == "web")]
        return [max(sizes)] if sizes else []

    return read


def _growth(figures: Figures) -> Sequence[float]:
    growth = figures.get("growth")
    if not growth:
        return []
    return [growth["after"][name] / ms for name, ms in growth["before"].items() if name != "settled"]


def _snapshot(figures: Figures) -> Sequence[float]:
    held = figures.get("snapshot")
    cpu = {when: held[when]["cpu"][POSTGRES] for when in ("before", "during")} if held else {}
    return [cpu["during"] / cpu["before"]] if cpu else []


def _storm(figures: Figures) -> Sequence[float]:
    return [round["beside"] / round["alone"] for round in figures.get("storm", ())]


ROWS = (
    Row("`GET /health`, of the peer's rate", 0.8, 1.2, "x", _ratio("health"), at_least=True),
    Row("`GET /auth/me`, of the peer's rate", 0.9, 1.4, "x", _ratio("me"), at_least=True),
    Row("`GET /payments/:id`, of the peer's rate", 0.9, 1.4, "x", _ratio("get"), at_least=True),
    Row("`GET /payments?limit=20`, of the peer's rate", 0.7, 1.2, "x", _ratio("list"), at_least=True),
    Row(
        "`POST /payments`, workers stopped, of the peer's rate",
        1.2,
        1.8,
        "x",
        _ratio("create"),
        at_least=True,
    ),
    Row("`POST /payments`, all workers settling, p95", 60, 40, " ms", _settling("post p95")),
    Row("settled payments a second", 200, 300, "/s", _settling("rate"), at_least=True),
    Row("CPU of a settled payment, all processes and stores", 9, 6, " ms", _cpu),
    Row("statements of a settled payment, at saturation", 12, None, "", _statements),
    Row("write transactions of a settled payment", 4, None, "", _settling("write transactions")),
    Row("WAL of a settled payment", 12, None, " kB", _settling("wal kB")),
    Row("POST to the terminal status when idle", 60, 30, " ms", _latency("ended")),
    Row("POST to `processing` when idle", 10, None, " ms", _latency("begun")),
    Row("login, of the peer's rate", 0.92, 0.97, "x", _ratio("login"), at_least=True),
    Row("p95 of reads in a login storm, of that without", 2, None, "x", _storm),
    Row("CPU of the idle stack, percent of a core", 2, None, " %", _idle),
    Row("resident memory of a web process, the largest", 80, None, " MB", _resident("web")),
    Row("resident memory of a worker process, the largest", 80, None, " MB", _resident("worker")),
    Row("a read with a million payments more, median of the calls", 1.2, None, "x", _growth),
    Row("PostgreSQL's CPU of a payment under a held snapshot", 2, None, "x", _snapshot),
    Row("noise: the same server against itself, `me`", 1.2, None, "x", _noise),
)
