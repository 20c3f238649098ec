"""Segmentations, arranged: by data, by method over the seeds, and what one method has over another."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from aureole.core.records import Record, SegmentationRow
from aureole.report.aggregate import Group, Statistic, count, group_runs, statistic
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
SUPERVISED = "Supervised"
_ORDER = (
    SUPERVISED, "Entropy minimisation", "Mean Teacher", "UA-MT", "SASSNet", "DTC", "URPC", "MC-Net", "RanMixup", "VAT",
    "VAT + Mixup", "SVGD", "SVGDF", "SVGDF + l_cs", "SS-Net", "Cross-ALD",
)  # fmt: skip
_COMPARED = (
    ("Cross-ALD", "SS-Net"), ("Cross-ALD", "VAT"), ("SVGDF", "SVGD"), ("SVGD", "VAT"), ("SS-Net", "VAT"),
    ("VAT + Mixup", "VAT"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Masks:
    """The runs of one method on the same scans.

    Args:
        group: the runs.
        name: what the report calls them.
    """

    group: Group
    name: str

    def row(self, record: Record, class_name: str = MEAN) -> SegmentationRow | None:
        """Return the row of a class in a run; None where it has none."""
        return next((row for row in record.segmentations if row.class_name == class_name), None)

    def figure(self, figure: Figure, class_name: str = MEAN) -> Statistic | None:
        """Return a figure of a class over the seeds; None where no run has it."""
        return self.over(figure, class_name)

    def over(self, field: str, class_name: str = MEAN) -> Statistic | None:
        """Return a field of a class over the runs where it is finite; None where it is in none."""
        rows = [row for record in self.group.records if (row := self.row(record, class_name)) is not None]
        found = [value for row in rows if (value := getattr(row, field)) is not None and math.isfinite(value)]
        return statistic(found) if found else None

    def by_scan(self, figure: Figure) -> list[float]:
        """Return the values of all test scans of all runs, where they are known."""
        rows = [row for record in self.group.records if (row := self.row(record)) is not None]
        values = [value for row in rows for value in getattr(row, f"{figure}_by_scan")]
        return [value for value in values if value is not None and math.isfinite(value)]

    @property
    def steps(self) -> list[int]:
        """Numbers of training steps of the runs, ascending; none where the runs do not say."""
        found = set()
        for record in self.group.records:
            epochs, steps = (record.config.get(name) for name in ("epochs", "steps_per_epoch"))
            if isinstance(epochs, int) and isinstance(steps, int):
                found.add(epochs * steps)
        return sorted(found)

    @property
    def seconds(self) -> Statistic:
        """Time of the whole run."""
        return statistic(record.wall_seconds for record in self.group.records)

    def empty(self, class_name: str = MEAN) -> tuple[int, int]:
        """Return how many masks of a class, or of all, were predicted empty, and of how many."""
        rows = [row for record in self.group.records for row in record.segmentations if row.class_name != MEAN]
        rows = [row for row in rows if class_name in (MEAN, row.class_name)]
        return sum(row.num_empty_predictions for row in rows), sum(row.num_scans for row in rows)

    @property
    def dice_by_seed(self) -> dict[int, float]:
        """Mean Dice in hundredths, by seed."""
        rows = {record.seed: self.row(record) for record in self.group.records}
        return {seed: 100 * row.dice for seed, row in rows.items() if row is not None and math.isfinite(row.dice)}


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
        """The methods, in the thesis's order, those that it does not name last; by number of particles."""
        groups = sorted(group_runs(self.records), key=_place)
        labels = [re.sub(r", \d+ labelled$", "", group.label) for group in groups]  # the heading says how many
        counted = [f"{label}, {count(group.num_particles)}" for label, group in zip(labels, groups, strict=True)]
        names = [
            label if labels.count(label) == 1 else longer if counted.count(longer) == 1 else group.name
            for group, label, longer in zip(groups, labels, counted, strict=True)
        ]
        return [Masks(group=group, name=name) for group, name in zip(groups, names, strict=True)]

    @property
    def num_scans(self) -> list[int]:
        """Numbers of test scans of the runs, ascending."""
        return sorted({row.num_scans for record in self.records for row in record.segmentations})

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
        by_method: dict[str, list[Masks]] = {}
        for masks in self.masks:
            by_method.setdefault(masks.group.method, []).append(masks)
        rivals = [(name, SUPERVISED) for name in by_method if name != SUPERVISED]
        pairs = [
            (mine, theirs)
            for one, other in (*_COMPARED, *rivals)
            for mine in by_method.get(one, [])
            for theirs in _beside(mine, by_method.get(other, []))
        ]
        pairs += [(mine, line[0]) for line in by_method.values() for mine in line[1:] if _more(mine, line[0])]
        found = [(mine.name, theirs.name, paired(mine.dice_by_seed, theirs.dice_by_seed)) for mine, theirs in pairs]
        return [(mine, theirs, gain) for mine, theirs, gain in found if gain is not None]


def _place(group: Group) -> int:
    return _ORDER.index(group.method) if group.method in _ORDER else len(_ORDER)


def _beside(mine: Masks, others: Sequence[Masks]) -> Sequence[Masks]:
    """Return those with as many particles, or all where there are none."""
    equal = [other for other in others if other.group.num_particles == mine.group.num_particles]
    return equal or others


def _more(mine: Masks, other: Masks) -> bool:
    return (mine.group.num_particles or 0) > (other.group.num_particles or 0)


def clinics(records: Iterable[Record]) -> list[Clinic]:
    """Return the segmentations, one clinic for each set of scans and labels."""
    found = [record for record in records if record.segmentations]
    return [Clinic(heading=heading, records=part) for part, heading in headed(found)]
