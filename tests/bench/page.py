"""Renders the figures of a run into docs/benchmarks.md and docs/images: `python -m tests.bench.page`."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import budgets, chart
from tests.bench.chart import Bar, number
from tests.bench.resources import POSTGRES, VALKEY

FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)
PLANNED_RATES = (1_000, 10_000)
Figures = Mapping[str, Any]


def table(figures: Figures) -> str:
    """Returns what must be reached, and what was measured, as a table."""
    lines = ["| | must | goal | measured | |", "|---|---|---|---|---|"]
    for row in budgets.ROWS:
        if values := row.read(figures):
            lines.append(
                f"| {row.name} | {row.must} | {row.goal} | {_spread(values, row.unit)} | {row.verdict(median(values))} |"
            )
    return "\n".join([*lines, ""])


def publish(figures: Figures, docs: Path) -> None:
    """Writes the figures into the page, and draws the charts."""
    page, images = docs / "benchmarks.md", docs / "images"
    images.mkdir(exist_ok=True)
    drawn = {name: picture for name, draw in CHARTS.items() if (picture := draw(figures))}
    for name, picture in drawn.items():
        (images / f"{name}.svg").write_text(picture)
    parts = [
        _machine(figures),
        table(figures),
        _calls(figures),
        _settling(figures),
        _growth(figures),
        _plan(figures),
    ]
    shown = [f"![{name.replace('-', ' ')}](images/{name}.svg)\n" for name in drawn]
    text = "\n".join(["", *filter(None, parts), *shown, ""])
    page.write_text(FIGURES.sub(lambda _: text, page.read_text()))


def _machine(figures: Figures) -> str:
    options, versions = figures["options"], figures["versions"]
    rounds = f"{options['rounds']} rounds of {options['seconds']:g} s"
    named = ", ".join(f"{name} {value}" for name, value in versions.items())
    load = f"Load of the machine before the run: {figures['load before']}"
    busy = load + (" (busy: trust only the ratios and the counts)" if figures["load before"] > 0.3 else "")
    return (
        f"Measured {figures['date']} at commit {figures['commit']}, {rounds}, on {figures['machine']},"
        f" {figures['system']}. {busy}. {named}.\n"
    )


def _calls(figures: Figures) -> str:
    calls = figures.get("calls", {})
    if not calls:
        return ""
    lines = [
        "| call | program | requests/s [min–max] | p50, p95, p99 in ms | ours/it [min–max] | CPU ms a request |",
        "|---|---|---|---|---|---|",
    ]
    for name, programs in calls.items():
        ours = programs["ours"]
        for program, runs in programs.items():
            times = ", ".join(
                number(median(run[part] for run in runs)) for part in ("p50", "p95", "p99") if part in runs[0]
            )
            ratios = [mine["rate"] / run["rate"] for mine, run in zip(ours, runs, strict=True)]
            ratio = "" if program == "ours" else _spread(ratios, "x")
            cpu = _by_process([run["cpu"] for run in runs]) if program == "ours" else ""
            lines.append(
                f"| {name} | {program} | {_spread([run['rate'] for run in runs])} | {times} | {ratio} | {cpu} |"
            )
    return "\n".join([*lines, ""])


def _settling(figures: Figures) -> str:
    rounds = figures.get("settling")
    if not rounds:
        return ""
    *timed, counted = rounds
    lines = [
        "CPU milliseconds a settled payment, by process: " + _by_process([run["cpu"] for run in timed]) + ".",
        "",
        f"WAL of a payment in kB, by table with its indexes: {_listed(counted['wal by table'])}.",
        "",
        "Statements a payment at saturation, those that take longest first:",
        "",
        "| a payment | ms | statement |",
        "|---|---|---|",
        *(
            f"| {calls:g} | {ms:g} | `{query.replace('|', '¦').replace('`', '')}` |"
            for calls, ms, query in counted["longest statements"][:25]
        ),
        "",
    ]
    return "\n".join(lines)


def _memory(figures: Figures) -> str:
    """Returns the memory of each process."""
    sizes = figures.get("resident", {})
    listed = [f"{name} {', '.join(number(size) for size in each)}" for name, each in sizes.items()]
    return f"Resident megabytes: {'; '.join(listed)}.\n" if listed else ""


def _growth(figures: Figures) -> str:
    growth = figures.get("growth")
    if not growth:
        return ""
    before, after = growth["before"], growth["after"]
    lines = [f"| with {growth['payments']:,} payments more | before | after | ratio |", "|---|---|---|---|"]
    for name in before:
        unit = "/s" if name == "settled" else " ms"
        ratio = after[name] / before[name]
        lines.append(
            f"| {name} | {number(before[name])}{unit} | {number(after[name])}{unit} | {ratio:.2f}x |"
        )
    return "\n".join([*lines, ""])


def _plan(figures: Figures) -> str:
    """Returns what larger rates take, from the measured cost of one payment."""
    rounds = figures.get("settling", [])[:-1]
    if not rounds:
        return ""
    cpu = [run["cpu"] for run in rounds]
    stores = [median(run.get(name, 0.0) for run in cpu) for name in (POSTGRES, VALKEY)]
    processes = median(sum(run.values()) for run in cpu) - sum(stores)
    wal, writes = (median(run[name] for run in rounds) for name in ("wal kB", "write transactions"))
    disk = figures.get("growth", {}).get("kB a payment")
    lines = [
        "| payments a second | cores: web, workers | PostgreSQL | Valkey | write transactions/s | WAL MB/s | disk GB a day |",
        "|---|---|---|---|---|---|---|",
    ]
    for rate in PLANNED_RATES:
        cores = [number(rate * ms / 1000) for ms in (processes, *stores)]
        written = [number(rate * writes), number(rate * wal / 1000)]
        grows = number(rate * disk * 86_400 / 1e6) if disk else "not measured"
        lines.append(f"| {rate:,} | {' | '.join([*cores, *written, grows])} |")
    return "\n".join([*lines, ""])


def _by_process(runs: Sequence[Mapping[str, float]]) -> str:
    means = {name: median(run.get(name, 0.0) for run in runs) for name in runs[0]}
    return _listed(sorted(means.items(), key=lambda item: -item[1]))


def _listed(items: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in items if value >= 0.005)


def _spread(values: Sequence[float], unit: str = "") -> str:
    middle = f"{number(median(values))}{unit}"
    return middle if len(values) == 1 else f"{middle} [{number(min(values))}–{number(max(values))}]"


def _draw_calls(figures: Figures) -> str | None:
    bars = []
    for name, programs in figures.get("calls", {}).items():
        for program, runs in programs.items():
            rates = [run["rate"] for run in runs]
            if program in ("ours", "peer"):
                bars.append(Bar(name, median(rates), program, min(rates), max(rates)))
    return chart.draw("Requests a second, 16 connections", bars) if bars else None


def _draw_cpu(figures: Figures) -> str | None:
    runs = [run["cpu"] for run in figures.get("settling", [])[:-1]]
    bars = [Bar(name, median(run.get(name, 0) for run in runs), "") for name in (runs[0] if runs else ())]
    bars.sort(key=lambda bar: -bar.value)
    return chart.draw("CPU of a settled payment, by process", bars, unit=" ms") if bars else None


def _draw_settled(figures: Figures) -> str | None:
    runs = figures.get("settling", [])[:-1]
    bars = [Bar(f"round {number_of}", run["rate"], "") for number_of, run in enumerate(runs, 1)]
    return (
        chart.draw("Settled payments a second", bars, marks=[(200, "must"), (300, "goal")]) if bars else None
    )


def _draw_idle(figures: Figures) -> str | None:
    shares = figures.get("idle", {})
    bars = [Bar(name, share, "") for name, share in sorted(shares.items(), key=lambda item: -item[1])]
    return chart.draw("CPU of the idle stack, percent of a core", bars, unit=" %") if bars else None


def _draw_growth(figures: Figures) -> str | None:
    growth = figures.get("growth")
    if not growth:
        return None
    names = [name for name in growth["before"] if name != "settled"]
    bars = [Bar(name, growth[when][name], when) for name in names for when in ("before", "after")]
    return chart.draw(
        f"Reads with {growth['payments']:,} payments more, ms at 4 connections", bars, unit=" ms"
    )


CHARTS: dict[str, Callable[[Figures], str | None]] = {
    "calls": _draw_calls,
    "cpu-of-a-payment": _draw_cpu,
    "settled": _draw_settled,
    "idle": _draw_idle,
    "growth": _draw_growth,
}


if __name__ == "__main__":
    publish(json.loads(Path(*sys.argv[1:] or [".data/bench/results.json"]).read_text()), Path("docs"))
