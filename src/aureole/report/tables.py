"""The table of methods and attacks for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aureole.core.records import Record
from aureole.report.accuracies import accuracy_text
from aureole.report.aggregate import attack_names, data_of, group_runs, split
from aureole.report.layout import DASH, share

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
            cells = [group.name, data.name, str(len(set(group.seeds)))]
            for attack in attacks:
                value, paper = group.accuracy(attack), group.paper(attack)
                lines = [DASH if value is None else accuracy_text(value)]
                lines += [] if paper is None else [f"paper {share(paper)}"]
                cells.append("\n".join(lines))
            table.add_row(*map(Text, cells))
    return table
