"""Drawings as inline SVG: small, the same bytes every time, and readable on a light and on a dark page.

The colours are names of CSS variables that the page defines twice, once for each colour scheme; the text is text.
Matplotlib draws through its objects only, with its own defaults, so no global setting of the caller matters or changes.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from markupsafe import Markup, escape

from aureole.report.aggregate import Statistic
from aureole.report.layout import Style, number

NUM_COLOURS = 8
_DASHES = ["", "6 2.5", "1.5 2", "7 2 1.5 2", "11 3", "4 2 1.5 2 1.5 2"]
_MARKERS = "osD^vP"
_MARKER_PATHS = [
    "M17 6a3 3 0 1 1-6 0 3 3 0 1 1 6 0z",
    "M11.2 3.2h5.6v5.6h-5.6z",
    "M14 2.4 17.6 6 14 9.6 10.4 6z",
    "M14 2.6 17.4 9H10.6z",
    "M14 9.4 17.4 3H10.6z",
    "M13 2.8h2V5h2.2v2H15v2.2h-2V7h-2.2V5H13z",
]
_INK, _MUTED, _GRID, _SURFACE = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
_VARIABLES = {_INK: "ink", _MUTED: "muted", _GRID: "grid", _SURFACE: "surface"}
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "figure.facecolor": "none",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a drawing.

    Args:
        name: what it stands for.
        style: how it is drawn.
        x: places, ascending.
        y: values.
        low: lower end of the spread at each place; equal to ``y`` where there is none.
        high: upper end.
    """

    name: str
    style: Style
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def line(name: str, style: Style, points: Mapping[Any, Statistic]) -> Line:
    """Return the line through statistics, each with its bounds.

    Args:
        name: what it stands for.
        style: how it is drawn.
        points: place (a number) -> statistic, in the order of the places.

    Returns:
        The line.
    """
    bounds = [point.bounds for point in points.values()]
    return Line(
        name=name,
        style=style,
        x=[float(place) for place in points],
        y=[point.mean for point in points.values()],
        low=[low for low, _ in bounds],
        high=[high for _, high in bounds],
    )


def colour(style: Style) -> str:
    """Return the CSS value of a style's colour.

    Example:
        >>> colour(Style(colour=9))
        'var(--s2)'
    """
    return f"var(--s{style.colour % NUM_COLOURS + 1})"


def swatch(style: Style, *, marked: bool) -> Markup:
    """Return the small drawn line of a legend.

    Args:
        style: how the line is drawn.
        marked: whether the drawing has markers.

    Returns:
        An inline SVG that screen readers skip.
    """
    dash = _DASHES[style.dash % len(_DASHES)]
    line = f'<path d="M1 6h26" fill="none" stroke="{colour(style)}" stroke-width="2"'
    line += f' stroke-dasharray="{dash}"/>' if dash else "/>"
    mark = f'<path d="{_MARKER_PATHS[style.marker % len(_MARKERS)]}" fill="{colour(style)}"/>' if marked else ""
    return Markup(f'<svg class="swatch" viewBox="0 0 28 12" aria-hidden="true">{line}{mark}</svg>')


def draw_curves(lines: Sequence[Line], *, name: str, labels: tuple[str, str]) -> Markup:
    """Draw values over epochs, the spread as a shaded band.

    Args:
        lines: the lines.
        name: a name that no other drawing of the page has.
        labels: what the x and the y axis stand for; the panel's title names the y axis.

    Returns:
        An inline SVG that says in words what it shows, for those who do not see it.
    """
    with _figure() as (figure, axes):
        for line in lines:
            tone = _sentinel(line.style)
            axes.fill_between(line.x, _finite(line.low), _finite(line.high), color=tone, alpha=0.16, linewidth=0)
            marker = _MARKERS[line.style.marker % len(_MARKERS)] if len(line.x) == 1 else ""
            axes.plot(line.x, _finite(line.y), color=tone, linewidth=1.7, marker=marker, **_dashes(line.style))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(labels[0])
        return _inline(figure, name, _words(lines, labels))


def draw_radii(lines: Sequence[Line], *, name: str, labels: tuple[str, str]) -> Markup:
    """Draw accuracies over the radius, the spread as a shaded band.

    Args:
        lines: the lines; ``x`` holds radii.
        name: a name that no other drawing of the page has.
        labels: what the x and the y axis stand for; the panel's title names the y axis.

    Returns:
        An inline SVG that says in words what it shows, for those who do not see it.
    """
    with _figure() as (figure, axes):
        for line in lines:
            tone, marker = _sentinel(line.style), _MARKERS[line.style.marker % len(_MARKERS)]
            axes.fill_between(line.x, _finite(line.low), _finite(line.high), color=tone, alpha=0.16, linewidth=0)
            axes.plot(
                line.x, _finite(line.y), color=tone, linewidth=1.7, marker=marker, markersize=5.5, **_dashes(line.style)
            )
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(labels[0])
        return _inline(figure, name, _words(lines, labels))


def draw_counts(lines: Sequence[Line], *, name: str, labels: tuple[str, str], levels: Sequence[Line] = ()) -> Markup:
    """Draw values over a number, such as that of particles, on a scale of powers of two, the spread as bars.

    Args:
        lines: the lines; ``x`` holds the numbers.
        name: a name that no other drawing of the page has.
        labels: what the x and the y axis stand for; the panel's title names the y axis.
        levels: what does not depend on the number: lines of one point, drawn from end to end with their spread.

    Returns:
        An inline SVG that says in words what it shows, for those who do not see it.
    """
    places = sorted({x for line in lines for x in line.x})
    gap = min((math.log2(after / before) for before, after in itertools.pairwise(places)), default=1.0)
    apart = 0.05 if gap >= 1 else min(0.05, 0.3 * gap / len(lines))
    with _figure() as (figure, axes):
        for level in levels:
            tone = _sentinel(level.style)
            axes.axhspan(_finite(level.low)[0], _finite(level.high)[0], color=tone, alpha=0.13, linewidth=0)
            axes.axhline(_finite(level.y)[0], color=tone, linewidth=1.7, **_dashes(level.style))
        for index, line in enumerate(lines):
            aside = 2 ** (apart * (index - (len(lines) - 1) / 2))
            y = _finite(line.y)
            below = [max(0.0, b - a) for a, b in zip(_finite(line.low), y, strict=True)]
            above = [max(0.0, b - a) for a, b in zip(y, _finite(line.high), strict=True)]
            axes.errorbar(
                [x * aside for x in line.x],
                y,
                yerr=[below, above],
                color=_sentinel(line.style),
                marker=_MARKERS[line.style.marker % len(_MARKERS)],
                markersize=5.5,
                linewidth=1.7,
                elinewidth=1.2,
                capsize=2.5,
                **_dashes(line.style),
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
        axes.set_xlim(places[0] / 1.25, places[-1] * 1.25)
        axes.set_xlabel(labels[0])
        return _inline(figure, name, _words(lines, labels) + _heights(levels))


def draw_rows(rows: Sequence[Line], *, name: str, label: str) -> Markup:
    """Draw one value a row, from the top down, the spread as a bar.

    Args:
        rows: lines of one point; ``x`` does not matter.
        name: a name that no other drawing of the page has.
        label: what the values are.

    Returns:
        An inline SVG that says in words what it shows, for those who do not see it.
    """
    with _figure(height=0.8 + 0.24 * len(rows)) as (figure, axes):
        for place, row in enumerate(rows):
            (value,), (low,), (high,) = (_finite(part) for part in (row.y, row.low, row.high))
            axes.errorbar(
                [value],
                [place],
                xerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
                color=_sentinel(row.style),
                marker=_MARKERS[row.style.marker % len(_MARKERS)],
                markersize=6,
                elinewidth=1.4,
                capsize=2.5,
            )
        axes.set_yticks(range(len(rows)), [textwrap.shorten(row.name, 30, placeholder=" ...") for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(label)
        return _inline(figure, name, f"{label}.{_heights(rows)}")


def _heights(levels: Sequence[Line]) -> str:
    """Name every level."""
    return "".join(f" {level.name}: {number(level.y[0])}." for level in levels)


def _words(lines: Sequence[Line], labels: tuple[str, str]) -> str:
    """Name the two ends of every line."""
    ends = [
        f"{line.name}: {number(line.y[0])} at {line.x[0]:g}, {number(line.y[-1])} at {line.x[-1]:g}" for line in lines
    ]
    return f"{labels[1]} against {labels[0]}. {'; '.join(ends)}."


def _sentinel(style: Style) -> str:
    return f"#0a0c{style.colour % NUM_COLOURS + 1:02x}"


def _finite(values: Sequence[float]) -> list[float]:
    return [value if math.isfinite(value) else math.nan for value in values]


def _dashes(style: Style) -> dict[str, Any]:
    """Scale the pattern as the legend shows it: matplotlib multiplies dashes by the line's width."""
    dash = _DASHES[style.dash % len(_DASHES)]
    return {"linestyle": (0, [float(part) / 1.7 for part in dash.split()]) if dash else "-"}


@contextmanager
def _figure(height: float = 3.1) -> Iterator[tuple[Any, Any]]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for name, value in _SETTINGS.items():
            matplotlib.rcParams[cast("Any", name)] = value
        figure = Figure(figsize=(5.0, height), layout="constrained")
        yield figure, figure.add_subplot()


def _inline(figure: Any, name: str, words: str) -> Markup:
    """Turn a figure into an SVG element of the page: page's fonts and colours, own ids, no addresses."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = name
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*_\d+"', "<g", body).replace("xlink:href", "href")
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"#0a0c(\d\d)", lambda found: f"var(--s{int(found[1], 16)})", body)
    for sentinel, variable in _VARIABLES.items():
        body = body.replace(sentinel, f"var(--{variable})")
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    return Markup(f'<svg class="plot" {box[0]} role="img" aria-label="{escape(words)}">\n{body}\n</svg>')
