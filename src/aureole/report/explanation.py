"""Explanations (thesis, chapter 4): how well small students repeat their teacher, and what their maps are worth."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from aureole.core.records import Record
from aureole.report import figures
from aureole.report.explained_bars import draw_bars
from aureole.report.explained_rows import Comparison, comparisons, percent
from aureole.report.explained_tables import agreement_table, maps_table, overlap_tables
from aureole.report.explained_words import findings, opening, remarks
from aureole.report.layout import Block, Panel, Section, Style, Table
from aureole.report.sections import section


def explanation(records: Sequence[Record]) -> Section | None:
    """Return tables, bars and findings of students that explain their teacher, one block a data set and teacher."""
    return section("explanations", "Explanations", [_block(found) for found in comparisons(records)])


def tables_of(comparison: Comparison) -> list[Table]:
    """Return the tables of a comparison: agreement, maps, and overlap at each K."""
    found = [agreement_table(comparison), maps_table(comparison), *overlap_tables(comparison)]
    return [table for table in found if table is not None]


def _block(comparison: Comparison) -> Block:
    panels, legend = _bars(comparison)
    note = (
        f"IoU with {comparison.marked} of the K highest scores of a map, mean over seeds; whiskers: one sample standard"
        " deviation. The thesis's IoU is twice this one."
    )
    return Block(
        heading=comparison.name,
        sentence=opening(comparison),
        findings=findings(comparison),
        legend=legend,
        panels=panels,
        note=note if panels else "",
        tables=tables_of(comparison),
        remarks=remarks(comparison),
    )


def _bars(comparison: Comparison) -> tuple[list[Panel], list[tuple[Markup, str]]]:
    """Draw the overlap at each K, a panel a share of the images, all on one scale."""
    found = {
        at: {maps.name: maps.overlaps for maps in comparison.maps(at) if maps.overlaps} for at in comparison.shares
    }
    drawn = {at: bars for at, bars in found.items() if bars}
    names = dict.fromkeys(name for bars in drawn.values() for name in bars)
    styles = {name: Style(colour=place) for place, name in enumerate(names)}
    values = [value for bars in drawn.values() for overlaps in bars.values() for value in overlaps.values()]
    top = max((value.bounds[1] for value in values), default=0.0)
    panels = [
        Panel(
            title=f"IoU with {comparison.marked} against K, from {percent(at)} of the images",
            drawing=draw_bars(bars, styles, top=top, label="K, pixels of the highest scores"),
        )
        for at, bars in drawn.items()
    ]
    return panels, [(_swatch(style), name) for name, style in styles.items()]


def _swatch(style: Style) -> Markup:
    box = f'<rect x="8" y="1" width="12" height="10" fill="{figures.colour(style)}"/>'
    return Markup(f'<svg class="swatch" viewBox="0 0 28 12" aria-hidden="true">{box}</svg>')
