"""Runs with few labels, arranged: by data, number of labels, method and number of particles, and paired by seed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aureole.core.records import Evaluation, Record
from aureole.report.aggregate import (
    NATURAL,
    Accuracy,
    Group,
    Statistic,
    count,
    data_of,
    group_runs,
    statistic,
    stem,
)
from aureole.report.gains import Gain

SUPERVISED = "Supervised only"
VALIDATED = "validation/accuracy"
_ORDER = (SUPERVISED, "VAT", "ALD", "VAT + Mixup", "ALD + Mixup")


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of one method with one number of particles and of labels, over the seeds.

    Args:
        line: what the method is called, whatever the numbers.
        group: the runs.
        several: whether the line has other numbers of particles, so that its name does not tell them apart.
    """

    line: str
    group: Group
    several: bool = False

    @property
    def name(self) -> str:
        """The line and, where that alone is ambiguous, the number of particles."""
        return f"{self.line}, {count(self.group.num_particles)}" if self.several else self.line

    @property
    def num_labels(self) -> int:
        """Images with a label."""
        return len(data_of(self.group.records).labelled_index)

    @property
    def accuracy(self) -> Accuracy:
        """Natural accuracy."""
        found = self.group.accuracy(NATURAL)
        assert found is not None
        return found

    @property
    def evaluations(self) -> dict[Any, Evaluation]:
        """The natural evaluation of each run, by its seed and its labelled images."""
        return {
            (record.seed, record.data): row
            for record in self.group.records
            for row in record.evaluations
            if row.attack == NATURAL
        }

    @property
    def validated(self) -> Statistic | None:
        """Accuracy on the validation images after the last epoch; None where a run has none."""
        ends = [record.history[-1].get(VALIDATED) if record.history else None for record in self.group.records]
        values = [value for value in ends if value is not None]
        return statistic(values) if len(values) == len(ends) else None

    def gain(self, other: Runs) -> Gain | None:
        """Return by how much these are better than others; None where no two share seed and labelled images."""
        mine, theirs = self.evaluations, other.evaluations
        points = {key: 100 * (row.accuracy - theirs[key].accuracy) for key, row in mine.items() if key in theirs}
        return Gain(points=points) if points else None


@dataclass(frozen=True, kw_only=True)
class Study:
    """All runs with few labels of the same data.

    Args:
        name: of the data.
        runs: the labels alone first, then VAT and ALD, the others as they come; by number of particles.
    """

    name: str
    runs: tuple[Runs, ...]

    @property
    def labels(self) -> list[int]:
        """The numbers of labels, ascending."""
        return sorted({runs.num_labels for runs in self.runs})

    @property
    def lines(self) -> list[str]:
        """The names of the lines."""
        return list(dict.fromkeys(runs.line for runs in self.runs))

    def at(self, num_labels: int) -> list[Runs]:
        """Return the runs with so many labels."""
        return [runs for runs in self.runs if runs.num_labels == num_labels]

    def line(self, name: str, num_labels: int) -> dict[int | None, Runs]:
        """Return the runs of a line with so many labels, by number of particles."""
        return {runs.group.num_particles: runs for runs in self.at(num_labels) if runs.line == name}

    def named(self, method: str) -> list[str]:
        """Return the lines of a method."""
        return list(dict.fromkeys(runs.line for runs in self.runs if runs.group.method == method))

    def supervised(self, num_labels: int) -> Runs | None:
        """Return the runs on so many labels alone; None where there are none, or several kinds of them."""
        found = [runs for runs in self.at(num_labels) if runs.group.method == SUPERVISED]
        return found[0] if len(found) == 1 else None


def few(record: Record) -> bool:
    """Return whether a record says how well a model does that learned from few labels."""
    natural = any(row.attack == NATURAL for row in record.evaluations)
    return record.kind == "training" and bool(record.data.labelled_index) and natural


def place_of(record: Record) -> int:
    """Return where the method of a run with few labels stands among others; 0 for other records."""
    return (*_ORDER, record.method).index(record.method) if few(record) else 0


def studies(records: Iterable[Record]) -> list[Study]:
    """Return the runs with few labels, one study a data set.

    Args:
        records: any records.

    Returns:
        The studies, in first-seen order.
    """
    parts: dict[Any, list[Record]] = {}
    for record in filter(few, records):
        data = record.data
        parts.setdefault((data.name, data.num_validation, data.num_test), []).append(record)
    return [_study(part) for part in parts.values()]


def _study(records: Sequence[Record]) -> Study:
    counts = sorted({len(record.data.labelled_index) for record in records})
    groups = [g for n in counts for g in group_runs(r for r in records if len(r.data.labelled_index) == n)]
    taken = [(group.method, group.num_particles, len(data_of(group.records).labelled_index)) for group in groups]
    crowded = {key[0] for key in taken if taken.count(key) > 1}
    names = [_line(group) if group.method in crowded else group.method for group in groups]
    particles: dict[str, set[int | None]] = {}
    for name, group in zip(names, groups, strict=True):
        particles.setdefault(name, set()).add(group.num_particles)
    runs = [
        Runs(line=name, group=group, several=len(particles[name]) > 1)
        for name, group in zip(names, groups, strict=True)
    ]
    places = list(particles)
    runs.sort(key=lambda r: (place_of(r.group.records[0]), places.index(r.line), r.group.num_particles or 0))
    return Study(name=data_of(records).name, runs=tuple(runs))


def _line(group: Group) -> str:
    """Return the label of a group without its numbers of labels and of particles."""
    labels = len(data_of(group.records).labelled_index)
    return stem(re.sub(rf"[,;]? *\b{labels} labels\b", "", group.label), group.num_particles).strip() or group.method
