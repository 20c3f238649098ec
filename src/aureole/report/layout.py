"""What a page is made of: sections of blocks of figures and tables, and the words for numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from aureole.report.aggregate import Statistic

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EM DASH}"


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one line is drawn: its places in the lists of colours, dashes and markers.

    Args:
        colour: which colour; what has the same colour in two figures is the same thing.
        dash: which dash pattern.
        marker: which marker.
    """

    colour: int = 0
    dash: int = 0
    marker: int = 0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table.

    Args:
        text: the number or the words.
        details: smaller lines below.
        best: whether it is the best of its column.
        bar: length of a bar, in [0, 1], or None.
        style: whose colour the bar has.
    """

    text: str
    details: tuple[str, ...] = ()
    best: bool = False
    bar: float | None = None
    style: Style = Style()


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a caption; the first cell of a row is its header.

    Args:
        caption: what stands in it.
        head: one cell a column.
        rows: as many cells a row.
        folded: whether it opens on a click only.
    """

    caption: str
    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False


def plain_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a folded table of plain words, such as the numbers behind a drawing."""
    cells = [[Cell(text=text) for text in row] for row in rows]
    return Table(caption=caption, head=[Cell(text=text) for text in head], rows=cells, folded=True)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing with a title; ``drawing`` is an inline SVG that says in words what it shows."""

    title: str
    drawing: Markup


@dataclass(frozen=True, kw_only=True)
class Block:
    """Figures, the legend that they share, their numbers, and one sentence that says what to see.

    Args:
        heading: the data set, where the page has several; else empty.
        sentence: what to see.
        findings: what the numbers say, a sentence an item.
        legend: (drawn line, its name) pairs.
        panels: the drawings.
        note: how to read the drawings.
        tables: the numbers.
        remarks: what speaks against a comparison.
    """

    heading: str = ""
    sentence: str = ""
    findings: Sequence[str] = ()
    legend: Sequence[tuple[Markup, str]] = ()
    panels: Sequence[Panel] = ()
    note: str = ""
    tables: Sequence[Table] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Args:
        anchor: its name in an address.
        title: its heading.
        blocks: its content, at least one.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]


def number(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits.

    Example:
        >>> number(0.000123456), number(-1234.5), number(float("nan"))
        ('0.0001235', '−1234', 'not finite')
    """
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:.{digits}g}"
    if "e" in text and abs(value) >= 1:
        text = f"{value:.0f}"
    return text.replace("-", MINUS)


def share(value: float) -> str:
    """Return an accuracy with three decimals.

    Example:
        >>> share(0.85249)
        '0.852'
    """
    return f"{value:.3f}".replace("-", MINUS) if math.isfinite(value) else "not finite"


def points(value: float) -> str:
    """Return a difference of accuracies, in hundredths, with its sign.

    Example:
        >>> points(0.5), points(-0.123), points(-0.001)
        ('+0.50', '−0.12', '+0.00')
    """
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", MINUS)  # + 0.0: a zero has no sign


def spread_text(value: Statistic) -> str:
    """Return mean and spread of a quantity that is not an accuracy, both to the second digit of the spread.

    Example:
        >>> spread_text(Statistic(mean=12.345, spread=0.5678, count=3))
        '12.35 ± 0.57'
    """
    if value.spread is None:
        return number(value.mean)
    if not math.isfinite(value.mean) or value.spread < 1e-7:
        return f"{number(value.mean)} ± {number(value.spread, 2)}"
    digits = max(0, 1 - math.floor(math.log10(value.spread)))
    return f"{value.mean:.{digits}f} ± {value.spread:.{digits}f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Return a time in the two units that say most.

    Example:
        >>> duration(12.34), duration(1234.0), duration(7500.0)
        ('12.3 s', '20 min 34 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{number(seconds, 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def amount(value: int) -> str:
    """Return a whole number with its thousands apart.

    Example:
        >>> amount(60000)
        '60,000'
    """
    return f"{value:,}"


def listing(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    Example:
        >>> listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
