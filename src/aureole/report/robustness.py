"""Robustness: accuracy against the radius, what each attack needed, and what the evaluation's own checks found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from aureole.core.records import Evaluation, Record
from aureole.report import figures
from aureole.report.accuracies import accuracy_text
from aureole.report.aggregate import NATURAL, Accuracy, Group, attack_names, group_runs, statistic
from aureole.report.layout import (
    DASH,
    Block,
    Cell,
    Panel,
    Section,
    Style,
    Table,
    amount,
    number,
    plain_table,
    share,
    spread_text,
)
from aureole.report.sections import group_styles, over_data, section

#: The quantities of a row, by the name of the field of an evaluation.
MEASURES = {"l0": "mean L0", "l2": "mean L2", "linf": "mean Linf", "seconds_per_image": "s / image"}
_CAPTION = (
    "Accuracy under each attack (mean ± sample standard deviation over seeds; for a single run, its 95 % Wilson"
    " interval), and how far the images that fooled the model were moved: L0 is the share of changed pixels"
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack on the runs of one group.

    Args:
        group: name of the group.
        attack: the attack's row.
        radius: of its ball, in words.
        accuracy: over the runs.
        texts: the quantities of :data:`MEASURES`, in words.
    """

    group: str
    attack: str
    radius: str
    accuracy: Accuracy
    texts: tuple[str, ...]


def measured(records: Iterable[Record]) -> bool:
    """Return whether an evaluation says more than an accuracy: at which radius it attacked."""
    return any(row.radius is not None for record in records for row in record.evaluations)


def rows_of(groups: Sequence[Group]) -> list[Row]:
    """Return every attack on every group: natural accuracy first, then series by series, by radius."""
    found = []
    for group in groups:
        names = attack_names([group])
        series = list(dict.fromkeys(_tried(group, name)[0].series for name in names))
        for name in sorted(names, key=lambda name, group=group, series=series: _place(group, name, series)):
            tried, accuracy = _tried(group, name), group.accuracy(name)
            assert accuracy is not None
            radius = DASH if tried[0].radius is None else number(tried[0].radius)
            texts = tuple(_over_runs(tried, measure) for measure in MEASURES)
            found.append(Row(group=group.name, attack=name, radius=radius, accuracy=accuracy, texts=texts))
    return found


def _tried(group: Group, attack: str) -> list[Evaluation]:
    return [row for record in group.records for row in record.evaluations if row.attack == attack]


def _place(group: Group, name: str, series: Sequence[str]) -> tuple[bool, int, float]:
    row = _tried(group, name)[0]
    return name != NATURAL, series.index(row.series), row.radius or 0.0


def _over_runs(tried: Sequence[Evaluation], measure: str) -> str:
    values = [value for row in tried if (value := getattr(row, measure)) is not None]
    if not values:
        return DASH
    found = statistic(values)
    return number(found.mean, 3) if found.spread is None else spread_text(found)


def robustness(records: Sequence[Record], colours: dict[str, int]) -> Section | None:
    """Return security curves, a table of attacks, and what speaks against the figures, one block a data set."""
    return section("robustness", "Robustness", over_data(records, partial(_block, colours=colours)))


def _block(records: list[Record], heading: str, colours: dict[str, int]) -> Block | None:
    if not measured(records):
        return None
    groups = [g for g in group_runs(records) if any(row.radius is not None for r in g.records for row in r.evaluations)]
    drawn = _curves(groups)
    panels, tables, legend = _drawings(drawn, groups, heading, colours)
    return Block(
        heading=heading,
        sentence=_sentence(groups),
        legend=legend,
        panels=panels,
        note="At the radius 0 stands the natural accuracy. Shading: one sample standard deviation over seeds; for a"
        " single run, its 95 % interval."
        if panels
        else "",
        tables=[_table(rows_of(groups)), *tables],
        remarks=checks(records),
    )


def checks(records: Iterable[Record]) -> list[str]:
    """Return what the evaluations' own checks found, a sentence a finding, with the run that it is about."""
    found = [f"{r.label}, seed {r.seed}: {warning}" for r in records for warning in r.warnings]
    return found or ["The evaluation's own checks found nothing that speaks against these figures."]


def _table(rows: Sequence[Row]) -> Table:
    several = len({row.group for row in rows}) > 1
    head = ["attack", "radius", "accuracy", *MEASURES.values(), "images"]
    cells = []
    for row in rows:
        text, _, interval = accuracy_text(row.accuracy).partition(" [")
        accuracy = Cell(text=text, details=(f"[{interval}",) if interval else ())
        sizes = " to ".join(amount(size) for size in row.accuracy.num_examples)
        name = Cell(text=row.attack, details=(row.group,) if several else ())
        cells.append([name, Cell(text=row.radius), accuracy, *(Cell(text=t) for t in row.texts), Cell(text=sizes)])
    return Table(caption=_CAPTION, head=[Cell(text=text) for text in head], rows=cells)


def _curves(groups: Sequence[Group]) -> dict[str, dict[str, dict[float, Accuracy]]]:
    """Return series -> group -> radius -> accuracy, for series with several radii; the radius 0 is no attack."""
    found: dict[str, dict[str, dict[float, Accuracy]]] = {}
    for group in groups:
        for name in attack_names([group]):
            row, accuracy = _tried(group, name)[0], group.accuracy(name)
            if row.series and row.radius is not None and accuracy is not None:
                found.setdefault(row.series, {}).setdefault(group.name, {})[row.radius] = accuracy
    natural = {group.name: value for group in groups if (value := group.accuracy(NATURAL)) is not None}
    return {
        series: {
            name: ({0.0: natural[name]} if name in natural else {}) | dict(sorted(points.items()))
            for name, points in lines.items()
        }
        for series, lines in found.items()
        if any(len(points) > 1 for points in lines.values())
    }


def _drawings(
    drawn: dict[str, dict[str, dict[float, Accuracy]]], groups: Sequence[Group], heading: str, colours: dict[str, int]
) -> tuple[list[Panel], list[Table], list]:
    """Draw one panel a series with a line a group; for a single group, one panel with a line a series."""
    if not drawn:
        return [], [], []
    if len(groups) == 1:
        lines = {series: next(iter(points.values())) for series, points in drawn.items()}
        styles = {series: Style(colour=place, marker=place) for place, series in enumerate(lines)}
        parts = {"accuracy against the radius": lines}
    else:
        styles = group_styles(groups, colours)
        parts = {f"accuracy against the radius ({series})": lines for series, lines in drawn.items()}
    panels, tables = [], []
    for title, lines in parts.items():
        shapes = [figures.line(name, styles[name], points) for name, points in lines.items()]
        drawing = figures.draw_radii(shapes, name=f"robustness-{heading}-{title}", labels=("radius", title))
        panels.append(Panel(title=title, drawing=drawing))
        tables.append(_curve_table(title, lines))
    names = dict.fromkeys(name for lines in parts.values() for name in lines)
    return panels, tables, [(figures.swatch(styles[name], marked=True), name) for name in names]


def _curve_table(title: str, lines: dict[str, dict[float, Accuracy]]) -> Table:
    radii = sorted({radius for points in lines.values() for radius in points})
    rows = [
        [name, *(accuracy_text(points[radius]) if radius in points else DASH for radius in radii)]
        for name, points in lines.items()
    ]
    return plain_table(title.capitalize(), ["radius", *(number(radius) for radius in radii)], rows)


def _sentence(groups: Sequence[Group]) -> str:
    """Say how far the accuracy falls, for a few groups."""
    parts = []
    for group in groups[:3]:
        rows = [row for row in rows_of([group]) if row.attack != NATURAL]
        lowest, natural = min(rows, key=lambda row: row.accuracy.mean), group.accuracy(NATURAL)
        start = "" if natural is None else f"from {share(natural.mean)} without an attack "
        parts.append(f"{start}to {share(lowest.accuracy.mean)} under {lowest.attack} ({group.name})")
    return f"The accuracy falls {'; '.join(parts)}. A figure is as strong as the strongest attack behind it."
