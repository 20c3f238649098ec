"""Refinement (thesis, section 3.4): what an attack is worth when a learned map picks its pixels, victim by victim."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from aureole.core.records import Record
from aureole.report import figures
from aureole.report.aggregate import Statistic
from aureole.report.layout import Block, Panel, Section, Style
from aureole.report.refined_rows import ALL, MAP, RANKINGS, Line, Result, lines_of, refinements
from aureole.report.refined_tables import ranking_style, remarks_of, tables_of
from aureole.report.refined_words import findings
from aureole.report.sections import headed, section

_ACCURACY, _DETECTION, _NORM = "AdvAcc, with the pixels of the map", "DetAUC", "L2, as a share of the attack's own"
_STYLES = {
    _ACCURACY: ranking_style(MAP),
    _DETECTION: Style(colour=1, marker=1),
    _NORM: Style(colour=2, marker=2),
}
_NOTE = (
    "All three are better for the attacker when lower. At the share 1 stands the source attack itself. Shading: one"
    " sample standard deviation over seeds; for a single run, its 95 % interval. Dashed: rankings without a network."
)
_SENTENCE = (
    "A map of each image's vulnerable pixels, learned once, picks the pixels of an attack that are kept; the others go"
    " back to the clean image."
)


def refinement(records: Sequence[Record]) -> Section | None:
    """Return curves over the share of pixels, tables and findings, one block a data set and victim."""
    blocks = []
    for part, data in headed(refinements(records)):
        for victim, lines in lines_of(part).items():
            blocks.append(_block(f"{data}, {victim}" if data else victim, lines, first=not blocks))
    return section("refinement", "Refinement", blocks)


def _block(heading: str, lines: Sequence[Line], *, first: bool) -> Block:
    panels, legend = _drawings(heading, lines)
    return Block(
        heading=f"Victim: {heading}",
        sentence=_SENTENCE if first else "",
        findings=[sentence for line in lines for sentence in findings(line)],
        legend=legend,
        panels=panels,
        note=_NOTE if panels else "",
        tables=tables_of(lines),
        remarks=remarks_of(lines),
    )


def _drawings(heading: str, lines: Sequence[Line]) -> tuple[list[Panel], list[tuple[Markup, str]]]:
    """Draw two panels a line: what the map does, and the map beside its rivals; none where a line has one share."""
    panels, styles = [], dict[str, Style]()
    for line in lines:
        if len(line.shares) < 2:
            continue
        for title, curves in _panels(line).items():
            if len(curves) < 2:
                continue
            shapes = [figures.line(name, style, points) for name, (style, points) in curves.items()]
            drawing = figures.draw_radii(
                shapes, name=f"refinement-{heading}-{title}", labels=("share of the pixels", title)
            )
            panels.append(Panel(title=title, drawing=drawing))
            styles |= {name: style for name, (style, _) in curves.items()}
    return panels, [(figures.swatch(style, marked=True), name) for name, style in styles.items()]


def _panels(line: Line) -> dict[str, dict[str, tuple[Style, dict[float, Statistic]]]]:
    """Return title -> name of a curve -> its style and points."""
    whole = line.result(ALL)
    ends = {} if whole is None else {1.0: whole}
    mine = {at: found for at in line.shares if (found := line.result(MAP, at)) is not None} | ends
    quantities: dict[str, dict[float, Statistic]] = {
        _ACCURACY: {at: result.accuracy for at, result in mine.items()},
        _DETECTION: {at: found for at, result in mine.items() if (found := result.detection) is not None},
        _NORM: _norms(mine, whole),
    }
    beside = {f"{line.name}: the map": {name: (_STYLES[name], p) for name, p in quantities.items() if p}}
    rivals = {_ACCURACY: (_STYLES[_ACCURACY], quantities[_ACCURACY])}
    for name in dict.fromkeys(name for at in line.shares for name in line.rankings(at) if name != MAP):
        found = {at: result for at in line.shares if (result := line.result(name, at)) is not None} | ends
        points: dict[float, Statistic] = {at: result.accuracy for at, result in found.items()}
        rivals[f"AdvAcc, {RANKINGS.get(name, name)}"] = (ranking_style(name), points)
    return beside | {f"{line.name}: AdvAcc with other pixels, as many": rivals}


def _norms(results: dict[float, Result], whole: Result | None) -> dict[float, Statistic]:
    """Return the mean norm at each share, divided by that of the source attack."""
    base = None if whole is None else whole.over("l2")
    if base is None or not base.mean > 0:
        return {}
    found = {at: value for at, result in results.items() if (value := result.over("l2")) is not None}
    return {
        at: Statistic(
            mean=value.mean / base.mean,
            spread=None if value.spread is None else value.spread / base.mean,
            count=value.count,
        )
        for at, value in found.items()
    }
