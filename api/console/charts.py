"""Plots as SVG, drawn by pygal, with a table of the same figures for those who cannot see them."""

import sys
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pygal
from markupsafe import Markup
from pygal.style import Style

# pygal's finder of its map packages has an interface that Python has dropped: each later import would warn.
sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, pygal.PluginImportFixer)]

# The colours are those of the page, light or dark: the SVG stands inside it.
_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="var(--faint)",
    foreground_strong="var(--ink)",
    foreground_subtle="var(--line)",
    colors=("var(--accent)", "var(--bad)", "var(--busy)", "var(--warn)", "var(--faint)"),
    font_family="system-ui, sans-serif",
    guide_stroke_color="var(--line)",
    major_guide_stroke_color="var(--line)",
    guide_stroke_dasharray="none",
    major_guide_stroke_dasharray="none",
    label_font_size=13,
    major_label_font_size=13,
    legend_font_size=13,
    opacity=".85",
    opacity_hover="1",
    transition="none",
)
# Settings of every plot.
_CONFIG = pygal.Config(
    style=_STYLE,
    # Its script would come from another host.
    js=(),
    disable_xml_declaration=True,
    explicit_size=False,
    legend_at_bottom=True,
    show_minor_x_labels=False,
    truncate_label=-1,
    include_x_axis=True,
    margin=8,
)

Values = Sequence[float | int | None]


def line(
    name: str, labels: Sequence[str], *, shown: Sequence[str] = (), unit: str = "", **series: Values
) -> Markup:
    """Draws a line for each series. A value that is None leaves a gap in its line.

    `labels` are the places on the x axis, one for each value; only those in `shown` are written there. `unit`
    follows the values. `name` is unique in the page. The plot is narrower than that of `bars`: several stand
    side by side.
    """
    chart = pygal.Line(
        _CONFIG,
        show_dots=False,
        stroke_style={"width": 2},
        allow_interruptions=True,
        width=420,
        height=200,
        max_scale=5,
        x_labels_major=list(shown),
        # Room for the right half of the last label.
        margin_right=28,
        value_formatter=lambda value: "" if value is None else f"{value:g}{unit}",
    )
    return _draw(chart, name, labels, series)


def bars(name: str, labels: Sequence[str], **series: Values) -> Markup:
    """Draws a bar for each label, stacked from the values of all series. `name` is unique in the page."""
    chart = pygal.StackedBar(
        _CONFIG, width=640, height=240, x_labels_major_count=7, value_formatter="{:g}".format
    )
    return _draw(chart, name, labels, series)


def _draw(chart: Any, name: str, labels: Sequence[str], series: dict[str, Values]) -> Markup:
    chart.config.show_legend = len(series) > 1
    # The prefix of its style's selectors; a random one would make an unchanged chart differ.
    chart.uuid = name
    chart.x_labels = list(labels)
    for title, values in series.items():
        chart.add(title, list(values))
    drawing = chart.render_tree()
    for definitions in drawing.iter("defs"):
        # The settings of pygal's script, which the page's Content-Security-Policy would report.
        for script in definitions.findall("script"):
            definitions.remove(script)
    for element in drawing.iter():
        # Names that only the script would use, and that another plot of the page has too.
        if element.get("id", "").startswith("activate-serie-"):
            del element.attrib["id"]
    return Markup(ElementTree.tostring(drawing, encoding="unicode"))
