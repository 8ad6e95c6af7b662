"""Draws horizontal bars as SVG, for docs/images."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

# Legible on a light page and on a dark one.
COLOURS = ("#2f6fb3", "#c9772b", "#7a8794", "#4d8f57", "#8a5ca8")
GREY = "#7a8794"
WIDTH, LABEL, VALUE, BAR, GAP, TITLE = 760, 200, 90, 16, 14, 34


@dataclass(frozen=True)
class Bar:
    """One bar: its length, what it shows of its spread, and the series that it belongs to."""

    label: str
    value: float
    series: str
    low: float | None = None
    high: float | None = None


def draw(title: str, bars: Sequence[Bar], *, unit: str = "", marks: Sequence[tuple[float, str]] = ()) -> str:
    """Returns the chart. Bars with one label stand together; a mark is a vertical line with a name."""
    series = list(dict.fromkeys(bar.series for bar in bars))
    longest = max([*(bar.high or bar.value for bar in bars), *(value for value, _ in marks), 1e-9])
    scale = (WIDTH - LABEL - VALUE) / longest
    parts, y, previous = list[str](), TITLE + (20 if len(series) > 1 else 0), ""
    for bar in bars:
        if bar.label != previous:
            y += GAP if previous else 0
            parts.append(_text(LABEL - 8, y + BAR - 4, bar.label, "end"))
            previous = bar.label
        colour = COLOURS[series.index(bar.series) % len(COLOURS)]
        length = bar.value * scale
        parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{colour}"/>')
        end = LABEL + length
        if bar.low is not None and bar.high is not None:
            low, end, middle = (
                LABEL + bar.low * scale,
                LABEL + max(bar.high, bar.value) * scale,
                y + BAR / 2 - 1,
            )
            parts.append(f'<path d="M{low:.1f} {middle}H{end:.1f}" stroke="{GREY}" stroke-width="2"/>')
        parts.append(_text(end + 6, y + BAR - 4, f"{number(bar.value)}{unit}"))
        y += BAR
    for value, name in marks:
        x = LABEL + value * scale
        parts.append(f'<path d="M{x:.1f} {TITLE}V{y}" stroke="{GREY}" stroke-dasharray="4 3"/>')
        parts.append(_text(x, y + 14, name, "middle"))
    legend = []
    if len(series) > 1:
        for number_of, name in enumerate(series):
            x = LABEL + number_of * 130
            legend.append(
                f'<rect x="{x}" y="{TITLE - 4}" width="10" height="10" fill="{COLOURS[number_of % 5]}"/>'
            )
            legend.append(_text(x + 16, TITLE + 5, name))
    height = y + (24 if marks else 10)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">'
    heading = f'<text x="8" y="18" font-size="14" font-weight="bold" fill="{GREY}">{escape(title)}</text>'
    return "\n".join([head, heading, *legend, *parts, "</svg>", ""])


def number(value: float) -> str:
    """Returns a number with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{GREY}">{escape(text)}</text>'
