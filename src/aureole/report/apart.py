"""What the general table of accuracies leaves to the sections on few labels and on distillation."""

from __future__ import annotations

from collections.abc import Sequence

from aureole.core.records import Record
from aureole.report.aggregate import NATURAL, attack_names, group_runs
from aureole.report.distilled_rows import distilled
from aureole.report.few_rows import few


def untold(records: Sequence[Record]) -> list[Record]:
    """Return the records whose accuracies the general table is to show.

    Args:
        records: that may be compared.

    Returns:
        None of them where all are runs with few labels under no attack; else all but distillations under no attack.
    """
    if all(few(r) or not r.evaluations for r in records) and attack_names(group_runs(records)) == [NATURAL]:
        return []
    return [r for r in records if not (distilled(r) and all(row.attack == NATURAL for row in r.evaluations))]
