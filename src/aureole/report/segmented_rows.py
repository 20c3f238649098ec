"""Segmentations, arranged: by data, by method over the seeds, and what one method has over another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from aureole.core.records import Record, SegmentationRow
from aureole.report.aggregate import Group, Statistic, group_runs, statistic
from aureole.report.gains import Gain, paired
from aureole.report.sections import headed

Figure = Literal["dice", "jaccard", "hd95", "asd"]
#: Name in tables, and whether a larger value is better.
FIGURES: dict[Figure, tuple[str, bool]] = {
    "dice": ("Dice", True),
    "jaccard": ("Jaccard", True),
    "hd95": ("95HD", False),
    "asd": ("ASD", False),
}
MEAN = "mean"
_COMPARED = (
    ("Cross-ALD", "SS-Net"), ("Cross-ALD", "VAT"), ("SVGDF", "SVGD"), ("SVGD", "VAT"), ("SS-Net", "VAT"),
    ("VAT + Mixup", "VAT"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Masks:
    """The runs of one method on the same scans.

    Args:
        group: the runs.
    """

    group: Group

    @property
    def name(self) -> str:
        """What the report calls them."""
        return self.group.name

    def row(self, record: Record, class_name: str = MEAN) -> SegmentationRow | None:
        """Return the row of a class in a run; None where it has none."""
        return next((row for row in record.segmentations if row.class_name == class_name), None)

    def figure(self, figure: Figure, class_name: str = MEAN) -> Statistic | None:
        """Return a figure of a class over the seeds; None where no run has it."""
        rows = [row for record in self.group.records if (row := self.row(record, class_name)) is not None]
        return statistic(getattr(row, figure) for row in rows) if rows else None

    def by_scan(self, figure: Figure) -> list[float]:
        """Return the values of all test scans of all runs, where they are known."""
        rows = [row for record in self.group.records if (row := self.row(record)) is not None]
        return [value for row in rows for value in getattr(row, f"{figure}_by_scan") if value is not None]

    @property
    def empty(self) -> tuple[int, int]:
        """How many masks were predicted empty, and of how many."""
        rows = [row for record in self.group.records for row in record.segmentations if row.class_name != MEAN]
        return sum(row.num_empty_predictions for row in rows), sum(row.num_scans for row in rows)

    @property
    def dice_by_seed(self) -> dict[int, float]:
        """Mean Dice in hundredths, by seed."""
        rows = {record.seed: self.row(record) for record in self.group.records}
        return {seed: 100 * row.dice for seed, row in rows.items() if row is not None}


@dataclass(frozen=True, kw_only=True)
class Clinic:
    """Methods that segment the same scans from the same labels.

    Args:
        heading: of the data, where there are several.
        records: all runs.
    """

    heading: str
    records: Sequence[Record]

    @property
    def masks(self) -> list[Masks]:
        """The methods, in first-seen order."""
        return [Masks(group=group) for group in group_runs(self.records)]

    @property
    def class_names(self) -> list[str]:
        """Names of the classes but the background's."""
        rows = (row for record in self.records for row in record.segmentations)
        return list(dict.fromkeys(row.class_name for row in rows if row.class_name != MEAN))

    @property
    def rules(self) -> list[str]:
        """The rules for empty masks."""
        return list(dict.fromkeys(row.rule for record in self.records for row in record.segmentations))

    def gains(self) -> list[tuple[str, str, Gain]]:
        """Return what the thesis's claims compare, as differences of Dice in points of the same seeds."""
        by_method: dict[str, dict[int, float]] = {}
        for masks in self.masks:
            by_method.setdefault(masks.group.method, masks.dice_by_seed)
        rivals = [("Supervised", name) for name in by_method if name != "Supervised"]
        pairs = [(mine, theirs) for mine, theirs in _COMPARED if mine in by_method and theirs in by_method]
        pairs += [(name, alone) for alone, name in rivals if alone in by_method]
        found = [(mine, theirs, paired(by_method[mine], by_method[theirs])) for mine, theirs in pairs]
        return [(mine, theirs, gain) for mine, theirs, gain in found if gain is not None]


def clinics(records: Iterable[Record]) -> list[Clinic]:
    """Return the segmentations, one clinic for each set of scans and labels."""
    found = [record for record in records if record.segmentations]
    return [Clinic(heading=heading, records=part) for part, heading in headed(found)]
