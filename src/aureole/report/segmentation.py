"""Segmentations (thesis, chapter 6): figures of masks, by method and by class, and their spread over test scans."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from aureole.core.records import Record
from aureole.report import figures
from aureole.report.gains import gain_text
from aureole.report.layout import DASH, Block, Cell, Panel, Section, Style, Table, amount, number, spread_text
from aureole.report.sections import section
from aureole.report.segmented_boxes import draw_boxes
from aureole.report.segmented_rows import FIGURES, MEAN, Clinic, Figure, Masks, clinics

_RULES = {
    "ssl4mis": "a mask that is predicted empty counts as 0 for every figure, the distances included, as in the"
    " published code: that flatters their distances",
    "worst": "an empty mask where the truth is none, or the other way round, counts as the worst value",
    "skip": "masks that are empty on one side are left out",
}


def segmentation(records: Sequence[Record]) -> Section | None:
    """Return tables, box plots and findings of segmentations, one block a set of scans and labels."""
    return section("segmentations", "Segmentation", [_block(clinic) for clinic in clinics(records)])


def opening(clinic: Clinic) -> str:
    """Return which method has the highest Dice, and on how many test scans."""
    ranked = sorted(clinic.masks, key=lambda masks: -(value.mean if (value := masks.figure("dice")) else 0.0))
    best = ranked[0]
    scans = max(row.num_scans for record in clinic.records for row in record.segmentations)
    labelled = len(clinic.records[0].data.labelled_patients)
    value = best.figure("dice")
    text = DASH if value is None else spread_text(value)
    return (
        f"Highest mean Dice on {scans} test scans, from {labelled} labelled patients: {best.name}, {text}. All methods"
        " are judged with their last weights."
    )


def findings(clinic: Clinic) -> list[str]:
    """Return what each comparison of the thesis comes to, seed by seed."""
    return [
        f"{mine} less {theirs}: {gain_text(gain)} points of Dice; higher with {gain.wins} of {len(gain.points)} seeds."
        for mine, theirs, gain in clinic.gains()
    ]


def tables_of(clinic: Clinic) -> list[Table]:
    """Return the figures of each method, over the classes and class by class."""
    rules = "; ".join(f"rule {rule} for empty masks: {_RULES.get(rule, rule)}" for rule in clinic.rules)
    caption = f"Means over classes and test scans, over seeds with their spread; distances in voxels; {rules}"
    found = [_table(clinic, MEAN, caption, folded=False)]
    if len(clinic.class_names) > 1:
        found += [_table(clinic, name, f"The class {name}", folded=True) for name in clinic.class_names]
    return found


def _table(clinic: Clinic, class_name: str, caption: str, *, folded: bool) -> Table:
    best = {figure: _best(clinic, figure, class_name) for figure in FIGURES}
    head = ["method", "seeds", *(name for name, _ in FIGURES.values())]
    head += ["empty masks", "seconds"] if class_name == MEAN else []
    rows = []
    for masks in clinic.masks:
        cells = [Cell(text=masks.name), Cell(text=str(len(set(masks.group.seeds))))]
        for figure in FIGURES:
            value, paper = masks.figure(figure, class_name), masks.group.paper(figure)
            shown = paper is not None and class_name == MEAN
            cells.append(
                Cell(
                    text=DASH if value is None else spread_text(value),
                    details=(f"paper {number(paper)}",) if shown and paper is not None else (),
                    best=value is not None and len(clinic.masks) > 1 and value.mean == best[figure],
                )
            )
        if class_name == MEAN:
            seconds = masks.group.records[0].wall_seconds
            cells += [Cell(text=f"{masks.empty[0]} of {amount(masks.empty[1])}"), Cell(text=number(seconds, 3))]
        rows.append(cells)
    return Table(caption=caption, head=[Cell(text=text) for text in head], rows=rows, folded=folded)


def _best(clinic: Clinic, figure: Figure, class_name: str) -> float | None:
    values = [value.mean for masks in clinic.masks if (value := masks.figure(figure, class_name)) is not None]
    if not values:
        return None
    return max(values) if FIGURES[figure][1] else min(values)


def _block(clinic: Clinic) -> Block:
    masks = clinic.masks
    styles = {found.name: Style(colour=place) for place, found in enumerate(masks)}
    panels = [
        Panel(title=f"{name} of each test scan{'' if larger else ', voxels'}", drawing=_boxes(masks, figure, styles))
        for figure, (name, larger) in FIGURES.items()
        if any(found.by_scan(figure) for found in masks)
    ]
    return Block(
        heading=clinic.heading,
        sentence=opening(clinic),
        findings=findings(clinic),
        legend=[(_swatch(styles[found.name]), found.name) for found in masks],
        panels=panels,
        note="Boxes: quartiles and median over the test scans of all seeds; whiskers: least and greatest." if panels
        else "",
        tables=tables_of(clinic),
    )  # fmt: skip


def _boxes(masks: Sequence[Masks], figure: Figure, styles: dict[str, Style]) -> Markup:
    values = {found.name: found.by_scan(figure) for found in masks}
    return draw_boxes({name: found for name, found in values.items() if found}, styles, label=FIGURES[figure][0])


def _swatch(style: Style) -> Markup:
    box = f'<rect x="8" y="1" width="12" height="10" fill="{figures.colour(style)}"/>'
    return Markup(f'<svg class="swatch" viewBox="0 0 28 12" aria-hidden="true">{box}</svg>')
