"""Segmentations (thesis, chapter 6): figures of masks, by method and by class, and their spread over test scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from aureole.core.records import Record
from aureole.report.aggregate import Statistic, comparison_notes
from aureole.report.gains import gain_text, wins_text
from aureole.report.layout import (
    DASH,
    Block,
    Cell,
    Panel,
    Section,
    Style,
    Table,
    amount,
    listing,
    number,
    share,
    spread_text,
)
from aureole.report.sections import colours_of, section
from aureole.report.segmented_boxes import draw_boxes
from aureole.report.segmented_rows import FIGURES, MEAN, Clinic, Figure, Masks, clinics

_RULES = {
    "ssl4mis": "a mask that is predicted empty counts as 0 for every figure, the distances included, as in the"
    " published code: that flatters their distances",
    "worst": "an empty mask where the truth is none, or the other way round, counts as the worst value",
    "skip": "masks that are empty on one side are left out",
}


def segmentation(records: Sequence[Record], colours: Mapping[str, int] | None = None) -> Section | None:
    """Return tables, box plots and findings of segmentations, one block a set of scans and labels.

    Args:
        records: any records; those without segmentations add nothing.
        colours: method -> its place in the list of colours; None takes those of these records.
    """
    places = colours_of(records) if colours is None else colours
    return section("segmentations", "Segmentation", [_block(clinic, places) for clinic in clinics(records)])


def opening(clinic: Clinic) -> str:
    """Return which method has the highest Dice, and on how many test scans."""
    known = [(value, masks.name) for masks in clinic.masks if (value := masks.figure("dice")) is not None]
    labelled = len(clinic.records[0].data.labelled_patients)
    where = _scans(clinic)
    where += f", from {labelled} labelled patient{'' if labelled == 1 else 's'}" if labelled else ""
    if not known:
        return f"No Dice is known on {where}."
    value, name = max(known, key=lambda pair: pair[0].mean)
    text = f"Highest mean Dice on {where}: {name}, {_text(value, 'dice')}."
    return f"{text} All methods are judged with their last weights."


def findings(clinic: Clinic) -> list[str]:
    """Return what each comparison of the thesis comes to, seed by seed."""
    return [
        f"{mine} less {theirs}: {gain_text(gain)} points of Dice; {wins_text(gain, 'higher')}."
        for mine, theirs, gain in clinic.gains()
    ]


def remarks(clinic: Clinic) -> list[str]:
    """Return what speaks against averaging over the runs of a method, and against comparing methods."""
    notes = comparison_notes([masks.group for masks in clinic.masks])
    steps = {tuple(masks.steps) for masks in clinic.masks}
    notes += ["The methods differ in their number of training steps."] if len(steps) > 1 else []
    empty = {masks.name: masks.empty() for masks in clinic.masks}
    found = [f"{name} {count} of {amount(total)}" for name, (count, total) in empty.items() if count]
    if found and _flattered(clinic):
        text = (
            f"Masks predicted empty, whose distances count as 0: {listing(found)}. Distances of these methods are too"
        )
        notes.append(f"{text} small by that, and none of them is marked as the best.")
    return notes + (["The runs differ in their rule for empty masks."] if len(clinic.rules) > 1 else [])


def tables_of(clinic: Clinic) -> list[Table]:
    """Return the figures of each method, over the classes and class by class."""
    rules = "; ".join(f"rule {rule} for empty masks: {_RULES.get(rule, rule)}" for rule in clinic.rules)
    caption = f"Means over classes and {_scans(clinic)}, over seeds with their spread; distances in voxels; {rules}"
    found = [_table(clinic, MEAN, caption, folded=False)]
    if len(clinic.class_names) > 1:
        found += [_table(clinic, name, f"The class {name}", folded=True) for name in clinic.class_names]
    return found


def _table(clinic: Clinic, class_name: str, caption: str, *, folded: bool) -> Table:
    head = ["method", "seeds", *(name for name, _ in FIGURES.values()), "empty masks"]
    head += ["steps", "seconds"] if class_name == MEAN else []
    best = {figure: _best(clinic, figure, class_name) for figure in FIGURES}
    rows = []
    for masks in clinic.masks:
        empty, tried = masks.empty(class_name)
        cells = [Cell(text=masks.name), Cell(text=str(len(set(masks.group.seeds))))]
        cells += [_cell(masks, figure, class_name, best[figure]) for figure in FIGURES]
        cells.append(Cell(text=f"{empty} of {amount(tried)}"))
        if class_name == MEAN:
            cells += [Cell(text=_range(masks.steps)), Cell(text=number(masks.seconds.mean, 3))]
        rows.append(cells)
    return Table(caption=caption, head=[Cell(text=text) for text in head], rows=rows, folded=folded)


def _cell(masks: Masks, figure: Figure, class_name: str, best: float | None) -> Cell:
    """Return a figure with its millimetres, how many runs know it if not all do, and the thesis's value."""
    value, details = masks.figure(figure, class_name), list[str]()
    millimetres = None if FIGURES[figure][1] else masks.over(f"{figure}_mm", class_name)
    if millimetres is not None:
        details.append(f"{number(millimetres.mean, 3)} mm")
    if value is not None and value.count < len(masks.group.records):
        details.append(f"{value.count} of {len(masks.group.records)} runs")
    paper = masks.group.paper(figure) if class_name == MEAN else None
    if paper is not None:
        details.append(f"paper {number(paper)}")
    return Cell(text=_text(value, figure), details=tuple(details), best=value is not None and value.mean == best)


def _text(value: Statistic | None, figure: Figure) -> str:
    if value is None:
        return DASH
    return share(value.mean) if value.spread is None and FIGURES[figure][1] else spread_text(value)


def _scans(clinic: Clinic) -> str:
    return f"{_range(clinic.num_scans)} test scan{'' if clinic.num_scans == [1] else 's'}"


def _range(numbers: Sequence[int]) -> str:
    """Return the one number that all share, or the least and the greatest."""
    return "\N{EN DASH}".join(amount(found) for found in dict.fromkeys((numbers[0], numbers[-1]))) if numbers else DASH


def _best(clinic: Clinic, figure: Figure, class_name: str) -> float | None:
    """Return the best mean; of distances only that of methods whose masks count with what they are worth."""
    larger = FIGURES[figure][1]
    fair = [masks for masks in clinic.masks if larger or not (_flattered(clinic) and masks.empty(class_name)[0])]
    values = [value.mean for masks in fair if (value := masks.figure(figure, class_name)) is not None]
    if len(clinic.masks) < 2 or not values:
        return None
    return max(values) if larger else min(values)


def _flattered(clinic: Clinic) -> bool:
    """Return whether an empty mask may have the distance 0."""
    return "ssl4mis" in clinic.rules


def _block(clinic: Clinic, colours: Mapping[str, int]) -> Block:
    panels = [
        Panel(title=f"{name} of each test scan{'' if larger else ', voxels'}", drawing=drawn)
        for figure, (name, larger) in FIGURES.items()
        if (drawn := _boxes(clinic.masks, figure, colours)) is not None
    ]
    note = "Boxes: quartiles and median over the test scans of all seeds; whiskers: least and greatest."
    return Block(
        heading=clinic.heading,
        sentence=opening(clinic),
        findings=findings(clinic),
        panels=panels,
        note=note if panels else "",
        tables=tables_of(clinic),
        remarks=remarks(clinic),
    )


def _boxes(masks: Sequence[Masks], figure: Figure, colours: Mapping[str, int]) -> Markup | None:
    values = {found.name: by_scan for found in masks if (by_scan := found.by_scan(figure))}
    styles = {found.name: Style(colour=colours.get(found.group.method, 0)) for found in masks}
    return draw_boxes(values, styles, label=FIGURES[figure][0]) if values else None
