"""Which classes are taken for which: a picture of a confusion, and what another method changes of it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from markupsafe import Markup, escape

from aureole.core.records import Evaluation
from aureole.report.layout import points

Shares = list[list[float]]

_PER_CENT = "\N{NO-BREAK SPACE}%"
_CELL, _HEIGHT, _LEFT, _TOP, _BELOW, _NARROWEST = 34.0, 24.0, 46.0, 4.0, 40.0, 360.0


def shares_of(evaluations: Iterable[Evaluation]) -> Shares:
    """Return which share of each true class was put into each class, as the mean over evaluations.

    Args:
        evaluations: with a confusion, on the same images; at least one.

    Returns:
        One row a true class; NaN where no image is of this class.
    """
    parts = [[[_part(number, sum(row)) for number in row] for row in e.confusion] for e in evaluations]
    size = range(len(parts[0]))
    return [[math.fsum(part[i][j] for part in parts) / len(parts) for j in size] for i in size]


def _part(number: int, total: int) -> float:
    return number / total if total else math.nan


def largest_mistake(shares: Shares) -> float:
    """Return the largest share of a class that is taken for another; 0 where there is none."""
    return max((value for _, _, value in _mistakes(shares)), default=0.0)


def _mistakes(shares: Shares) -> list[tuple[int, int, float]]:
    size = range(len(shares))
    return [(i, j, shares[i][j]) for i in size for j in size if i != j and math.isfinite(shares[i][j])]


def draw_confusion(shares: Shares, *, most: float, words: str) -> Markup:
    """Draw a confusion as a table of tinted cells: right in one colour, mistaken in another, in per cent.

    Args:
        shares: of each true class (a row) in each predicted one (a column), in [0, 1] or NaN.
        most: the share that has the full colour of a mistake.
        words: what it shows, for those who do not see it.

    Returns:
        An inline SVG in the colours of the page.
    """
    size = len(shares)
    width, height = _LEFT + size * _CELL + 6, _TOP + size * _HEIGHT + _BELOW
    room = max(0.0, _NARROWEST - width)  # few classes are not drawn larger
    parts = [f'<g transform="translate({room / 2:g} 0)" font-size="10.5" text-anchor="middle">']
    for i, row in enumerate(shares):
        parts.append(_text(_LEFT - 10, _TOP + i * _HEIGHT + 15.5, str(i), "ink"))
        parts += [_cell(i, j, value, most) for j, value in enumerate(row) if math.isfinite(value)]
    bottom = _TOP + size * _HEIGHT
    parts += [_text(_LEFT + (j + 0.5) * _CELL, bottom + 15, str(j), "ink") for j in range(size)]
    middle = _TOP + size * _HEIGHT / 2
    parts.append(_text(_LEFT + size * _CELL / 2, bottom + 33, "predicted class", "muted"))
    turned = f' transform="rotate(-90 12 {middle:g})"'
    parts.append(_text(12.0, middle, "true class", "muted", turned))
    body = "\n".join([*parts, "</g>"])
    box = f"0 0 {width + room:g} {height:g}"
    return Markup(f'<svg class="plot" viewBox="{box}" role="img" aria-label="{escape(words)}">\n{body}\n</svg>')


def _cell(i: int, j: int, value: float, most: float) -> str:
    """Draw a cell; one that rounds to nothing stays empty."""
    tint = 0.6 * (value if i == j else math.sqrt(min(1.0, value / most)) if most > 0 else 0.0)
    x, y = _LEFT + j * _CELL, _TOP + i * _HEIGHT
    place = f'x="{x:g}" y="{y:g}" width="{_CELL - 1:g}" height="{_HEIGHT - 1:g}" rx="2"'
    rect = f'<rect {place} fill="var(--s{1 if i == j else 2})" fill-opacity="{tint:.3f}"/>'
    text = per_cent(value)
    shown = text if i == j or text not in ("0", "0.0") else ""
    ground = f'<rect {place} fill="var(--page)"/>'
    return f"{ground}{rect}{_text(x + (_CELL - 1) / 2, y + 15.5, shown, 'ink') if shown else ''}"


def _text(x: float, y: float, words: str, tone: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="var(--{tone})"{more}>{words}</text>'


def per_cent(value: float) -> str:
    """Return a share in per cent, with a decimal below 100.

    Example:
        >>> per_cent(0.0), per_cent(0.9534), per_cent(1.0)
        ('0', '95.3', '100')
    """
    return f"{100 * value:.0f}" if value in (0, 1) else f"{100 * value:.1f}"


def changes(before: Shares, after: Shares) -> str:
    """Say which class gains the most, which loses the most, and what becomes of the most frequent mistake.

    Args:
        before: the confusion to compare with.
        after: the other.

    Returns:
        A clause without a full stop.
    """
    moves = [(after[i][i] - before[i][i], i) for i in range(len(before)) if math.isfinite(after[i][i])]
    (least, loser), (best, winner) = min(moves), max(moves, key=lambda move: (move[0], -move[1]))
    parts = [_move("gains", winner, best, before, after) if best > 0 else "no class gains"]
    parts.append(_move("loses", loser, least, before, after) if least < 0 else "no class loses")
    mistakes = [mistake for mistake in _mistakes(before) if mistake[2] > 0]
    if mistakes:
        i, j, value = max(mistakes, key=lambda mistake: mistake[2])
        parts.append(
            f"the most frequent mistake of the labels alone, {i} taken for {j}, goes from {per_cent(value)} to"
            f" {per_cent(after[i][j])}{_PER_CENT}"
        )
    return "; ".join(parts)


def _move(verb: str, place: int, change: float, before: Shares, after: Shares) -> str:
    ends = f"from {per_cent(before[place][place])} to {per_cent(after[place][place])}{_PER_CENT} right"
    return f"class {place} {verb} the most ({ends}, {points(100 * change)} points)"
