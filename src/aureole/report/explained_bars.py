"""Bars of overlap against the number of pixels, a group a number (thesis, Figures 4.3, 4.6 and 4.7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from aureole.report import figures
from aureole.report.aggregate import Statistic
from aureole.report.layout import Style, number

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 400.0, 232.0, 40.0, 6.0, 8.0, 40.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def draw_bars(
    bars: Mapping[str, Mapping[int, Statistic]], styles: Mapping[str, Style], *, top: float, label: str
) -> Markup:
    """Draw groups of bars, a group a place, a bar a name, with the spread as a whisker.

    Args:
        bars: name -> place -> value, 0 or more.
        styles: name -> colour.
        top: the largest value of this and of the drawings beside it.
        label: what the places are.

    Returns:
        An inline SVG that says in words what it shows, for those who do not see it.
    """
    places = sorted({place for values in bars.values() for place in values})
    step = _step(top)
    ceiling = step * max(1, math.ceil(round(top / step, 6)))
    parts = ['<g font-size="10.5" text-anchor="middle">', *_scale(step, ceiling)]
    slot = (_WIDTH - _LEFT - _RIGHT) / len(places)
    width = 0.8 * slot / len(bars)
    for i, place in enumerate(places):
        left = _LEFT + slot * (i + 0.1)
        parts.append(_text(left + 0.4 * slot, _HEIGHT - _BOTTOM + 15, f"{place:,}"))
        for j, (name, values) in enumerate(bars.items()):
            if place in values:
                parts += _bar(left + j * width, width, values[place], ceiling, figures.colour(styles[name]))
    parts.append(_text((_WIDTH + _LEFT) / 2, _HEIGHT - 6, label, "muted"))
    body = "\n".join([*parts, "</g>"])
    words = escape(_words(bars, label))
    box = f"0 0 {_WIDTH:g} {_HEIGHT:g}"
    return Markup(f'<svg class="plot" viewBox="{box}" role="img" aria-label="{words}">\n{body}\n</svg>')


def _step(top: float) -> float:
    """Return the distance of the lines behind the bars: about five of them, at round numbers."""
    if not top > 0:
        return 0.2
    power = 10.0 ** math.floor(math.log10(top / 5))
    return power * next(step for step in _STEPS if step * power >= top / 5 * (1 - 1e-9))


def _scale(step: float, ceiling: float) -> list[str]:
    parts = []
    for i in range(round(ceiling / step) + 1):
        y = _y(i * step, ceiling)
        parts.append(f'<path d="M{_LEFT:g} {y:.1f}H{_WIDTH - _RIGHT:g}" stroke="var(--grid)" stroke-width="0.6"/>')
        parts.append(
            f'<text x="{_LEFT - 5:g}" y="{y + 3.5:.1f}" text-anchor="end" fill="var(--ink)">{i * step:g}</text>'
        )
    return parts


def _bar(x: float, width: float, value: Statistic, ceiling: float, colour: str) -> list[str]:
    base, y = _y(0.0, ceiling), _y(value.mean, ceiling)
    size = f'width="{0.88 * width:.2f}" height="{base - y:.1f}"'
    parts = [f'<rect x="{x:.2f}" y="{y:.1f}" {size} fill="{colour}"/>']
    if value.spread:
        low, high = (_y(max(0.0, bound), ceiling) for bound in value.bounds)
        parts.append(f'<path d="M{x + 0.44 * width:.2f} {low:.1f}V{high:.1f}" stroke="var(--ink)" stroke-width="1"/>')
    return parts


def _y(value: float, ceiling: float) -> float:
    value = value if math.isfinite(value) else 0.0
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(1.0, value / ceiling))


def _text(x: float, y: float, words: str, tone: str = "ink") -> str:
    return f'<text x="{x:.1f}" y="{y:g}" fill="var(--{tone})">{escape(words)}</text>'


def _words(bars: Mapping[str, Mapping[int, Statistic]], label: str) -> str:
    """Name the two ends of every group."""
    texts = []
    for name, values in bars.items():
        ends: Sequence[int] = sorted({min(values), max(values)})
        texts.append(f"{name}: {', '.join(f'{number(values[place].mean)} at {place}' for place in ends)}")
    return f"Bars against {label}. {'; '.join(texts)}."
