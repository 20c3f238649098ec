"""Tables for a terminal: methods and attacks, segmentations, and refined attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aureole.core.records import Record
from aureole.report.accuracies import accuracy_text
from aureole.report.aggregate import (
    Accuracy,
    Statistic,
    attack_names,
    data_name,
    data_of,
    group_runs,
    split,
)
from aureole.report.layout import DASH, number, share, spread_text
from aureole.report.refined_rows import ALL, FEWEST, MAP, Line, Result, lines_of
from aureole.report.segmented_rows import FIGURES, clinics

if TYPE_CHECKING:
    from rich.table import Table


def text_table(records: Sequence[Record]) -> Table:
    """Return accuracies as a table: one row a label, one column an attack.

    Args:
        records: any records; those without evaluations add nothing.

    Returns:
        A table to print with rich: mean and sample standard deviation over seeds, or the 95 % interval of a single
        run; what the paper reports stands in a second line. Several data sets share the columns.

    Example:
        >>> text_table([]).row_count
        0
    """
    from rich.table import Table
    from rich.text import Text

    parts = [(data_of(part), group_runs(part)) for part in split([record for record in records if record.evaluations])]
    attacks = attack_names(group for _, groups in parts for group in groups)
    table = Table(caption="accuracy: mean ± sample standard deviation over seeds; one run: its 95 % interval")
    table.add_column(Text("run"), overflow="fold")
    table.add_column(Text("data"))
    table.add_column(Text("seeds"), justify="right")
    for attack in attacks:
        table.add_column(Text(attack), justify="right")
    for data, groups in parts:
        for group in groups:
            cells = [group.name, data_name(data), str(len(set(group.seeds)))]
            for attack in attacks:
                value, paper = group.accuracy(attack), group.paper(attack)
                lines = [DASH if value is None else accuracy_text(value)]
                lines += [] if paper is None else [f"paper {share(paper)}"]
                cells.append("\n".join(lines))
            table.add_row(*map(Text, cells))
    return table


def segmentation_table(records: Sequence[Record]) -> Table:
    """Return the figures of segmentations as a table: one row a label, means over the classes.

    Args:
        records: any records; those without segmentations add nothing.

    Returns:
        A table to print with rich: mean and sample standard deviation over seeds; distances in voxels.

    Example:
        >>> segmentation_table([]).row_count
        0
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(caption="means over the classes and scans, of several seeds with their spread; distances in voxels")
    for name in ("run", "data", "seeds"):
        table.add_column(Text(name), overflow="fold", justify="right" if name == "seeds" else "left")
    for name in (*(name for name, _ in FIGURES.values()), "empty masks"):
        table.add_column(Text(name), justify="right")
    for clinic in clinics(records):
        for masks in clinic.masks:
            cells = [masks.name, data_name(data_of(clinic.records)), str(len(set(masks.group.seeds)))]
            values = [masks.figure(figure) for figure in FIGURES]
            cells += [DASH if value is None else spread_text(value) for value in values]
            empty, total = masks.empty()
            table.add_row(*map(Text, [*cells, f"{empty} of {total}"]))
    return table


def refinement_tables(records: Sequence[Record]) -> list[Table]:
    """Return refined attacks as tables, one a data set and victim: one row an attack and choice of pixels.

    Args:
        records: any records; those without refinements add nothing.

    Returns:
        Tables to print with rich. AdvAcc and DetAUC with their 95 % intervals, or, over several seeds, mean and sample
        standard deviation; L2 over all images and over those that were fooled; milliseconds an image, attack and map.

    Example:
        >>> refinement_tables([])
        []
    """
    return [_victim_table(part, victim, lines) for part in split(records) for victim, lines in lines_of(part).items()]


def _victim_table(records: Sequence[Record], victim: str, lines: Sequence[Line]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"{data_of(records).name}, {victim}"),
        caption="share: most pixels; changed: those that differ; L2: of all, of those fooled; ms: of attack and map",
        caption_justify="left",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    for name in ("attack", "pixels", "share", "changed", "AdvAcc", "DetAUC", "L2 all", "fooled", "ms"):
        justify = "left" if name in ("attack", "pixels") else "right"
        table.add_column(Text(name), justify=justify, no_wrap=name not in ("pixels", "AdvAcc", "DetAUC"))
    for line in lines:
        for row in _refined(line):
            table.add_row(*map(Text, row))
        table.add_section()
    return table


def _refined(line: Line) -> list[list[str]]:
    """Return the rows of a line: all pixels, each share with its rankings, the fewest, and the other attacks."""
    rows = [_row(line.name, "all", "1", line.result(ALL))]
    for at in line.shares:
        rows += [_row(line.name, name, f"{at:g}", line.result(name, at)) for name in line.rankings(at)]
    for at in line.shares:
        for name in line.rankings(at):
            if name == MAP or at == line.shares[0]:
                learned = f"map of {at:g}" if name == MAP and len(line.shares) > 1 else name
                rows.append(_row(line.name, learned, "least", line.result(name + FEWEST, at)))
    for other in line.others(compared=False):
        rows.append(_row(other, "all", "1", line.result(ALL, attack=other)))
        rows += [_row(other, f"map of {line.name}", f"{at:g}", line.result(MAP, at, other)) for at in line.shares]
    rows += [_row(other, "all", "1", line.result(ALL, attack=other)) for other in line.others(compared=True)]
    return [row for row in rows if row]


def _row(attack: str, pixels: str, most: str, result: Result | None) -> list[str]:
    if result is None:
        return []
    changed = result.over("changed")
    return [
        attack, pixels, most, DASH if changed is None else share(changed.mean),
        _with_interval(result.accuracy), _with_interval(result.detection),
        *(_mean(value) for value in (result.over("l2"), result.over("l2_fooled"))), _mean(result.seconds, scale=1000.0),
    ]  # fmt: skip


def _mean(value: Statistic | None, *, scale: float = 1.0) -> str:
    return DASH if value is None else number(scale * value.mean, 3)


def _with_interval(value: Accuracy | None) -> str:
    """Return an accuracy whose interval holds together where a line is broken."""
    if value is None:
        return DASH
    if value.interval is None:
        return share(value.mean) if value.spread is None else f"{share(value.mean)} ±{share(value.spread)}"
    low, high = value.interval
    return f"{share(value.mean)} {share(low)}\N{EN DASH}{share(high)}"
