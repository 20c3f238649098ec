"""What the general table of accuracies leaves to the sections on few labels, on distillation and on explanations."""

from __future__ import annotations

from collections.abc import Sequence

from aureole.core.records import Record
from aureole.report.aggregate import NATURAL, attack_names, group_runs
from aureole.report.distilled_rows import distilled
from aureole.report.explained_rows import explained
from aureole.report.few_rows import few


def untold(records: Sequence[Record]) -> list[Record]:
    """Return the records whose accuracies the general table is to show.

    Args:
        records: that may be compared.

    Returns:
        None of them where all are runs with few labels under no attack; else all but distillations and explanations
        under no attack.
    """
    if all(few(r) or not r.evaluations for r in records) and attack_names(group_runs(records)) == [NATURAL]:
        return []
    natural = [all(row.attack == NATURAL for row in r.evaluations) for r in records]
    return [r for r, only in zip(records, natural, strict=True) if not (only and (distilled(r) or explained(r)))]
