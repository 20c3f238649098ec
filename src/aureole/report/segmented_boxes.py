"""Box plots of a figure over test scans, a box a method."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from aureole.report import figures
from aureole.report.layout import Style, number

_RIGHT, _ROW, _TOP, _BOTTOM, _WIDTH = 10.0, 24.0, 6.0, 34.0, 400.0
_LETTER, _MOST_LETTERS = 5.9, 26


def draw_boxes(values: Mapping[str, Sequence[float]], styles: Mapping[str, Style], *, label: str) -> Markup:
    """Draw boxes one below the other, each with its name: quartiles, median, least and greatest value.

    Args:
        values: name -> finite values, at least one each.
        styles: name -> colour.
        label: what the values are.

    Returns:
        An inline SVG that says in words what it shows, for those who do not see it.

    Example:
        >>> from aureole.report.layout import Style
        >>> from aureole.report.segmented_boxes import draw_boxes
        >>> "median 0.5" in draw_boxes({"VAT": [0.25, 0.5, 1.0]}, {"VAT": Style()}, label="Dice")
        True
    """
    ends = [found for value in values.values() for found in (min(value), max(value))]
    low, high = min(0.0, *ends), max(ends)
    high = high if high > low else low + 1.0
    height = _TOP + _ROW * len(values) + _BOTTOM
    names = {name: textwrap.shorten(name, _MOST_LETTERS, placeholder="...") for name in values}
    left = 10.0 + _LETTER * max(map(len, names.values()))

    def x(value: float) -> float:
        return left + (_WIDTH - left - _RIGHT) * (value - low) / (high - low)

    parts, bottom = ['<g font-size="10.5">'], height - _BOTTOM
    for tick in _ticks(low, high):
        parts.append(f'<path d="M{x(tick):.1f} {_TOP:g}V{bottom:g}" stroke="var(--grid)" stroke-width="0.6"/>')
        parts.append(
            f'<text x="{x(tick):.1f}" y="{bottom + 13:g}" text-anchor="middle" fill="var(--ink)">{tick:g}</text>'
        )
    for place, (name, found) in enumerate(values.items()):
        parts.append(
            f'<text x="{left - 8:.1f}" y="{_TOP + _ROW * (place + 0.5) + 3.7:g}" text-anchor="end" fill="var(--ink)">'
            f"{escape(names[name])}</text>"
        )
        parts += _box([x(value) for value in quartiles(found)], _TOP + _ROW * place, figures.colour(styles[name]))
    parts.append(
        f'<text x="{(left + _WIDTH) / 2:g}" y="{height - 4:g}" text-anchor="middle" fill="var(--muted)">{label}</text>'
    )
    words = "; ".join(f"{name}: median {number(quartiles(found)[2])}" for name, found in values.items())
    body = "\n".join([*parts, "</g>"])
    return Markup(
        f'<svg class="plot" viewBox="0 0 {_WIDTH:g} {height:g}" role="img"'
        f' aria-label="{escape(f"Boxes of {label}. {words}.")}">\n{body}\n</svg>'
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Return the least value, the quartiles with the median between them, and the greatest.

    Example:
        >>> from aureole.report.segmented_boxes import quartiles
        >>> quartiles([5.0, 1.0, 2.0, 3.0, 4.0])
        (1.0, 2.0, 3.0, 4.0, 5.0)
    """
    if len(values) == 1:
        return values[0], values[0], values[0], values[0], values[0]
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    return min(values), first, middle, third, max(values)


def _box(at: Sequence[float], top: float, colour: str) -> list[str]:
    least, first, middle, third, greatest = at
    centre, inset = top + _ROW / 2, 5.0
    size = f'width="{max(third - first, 1.0):.1f}" height="{_ROW - 2 * inset:g}"'
    return [
        f'<path d="M{least:.1f} {centre:g}H{greatest:.1f}" stroke="var(--ink)" stroke-width="1"/>',
        f'<rect x="{first:.1f}" y="{top + inset:g}" {size} fill="{colour}"/>',
        f'<path d="M{middle:.1f} {top + inset:g}v{_ROW - 2 * inset:g}" stroke="var(--ink)" stroke-width="1.6"/>',
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= (high - low) / 6)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
