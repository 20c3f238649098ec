"""Distillations, arranged: by data, teacher and student, by method and number of TALD's particles, paired by seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aureole.core.records import BoundaryRow, NetworkRow, Record
from aureole.report.aggregate import NATURAL, Accuracy, Group, Statistic, statistic
from aureole.report.distilled_names import ALONE, SUPPORTED, Named, method_of, names_of
from aureole.report.gains import Gain, paired
from aureole.report.layout import amount
from aureole.report.sections import headed

MEASURES = {"magnitude": "MagSim", "angle": "AngSim"}
_SAME_DISTILLATION = ("label_weight", "kd_weight", "temperature")


@dataclass(frozen=True, kw_only=True)
class Taught:
    """Students of one teacher by one method, over the seeds.

    Args:
        named: what the method is called.
        group: the runs.
    """

    named: Named
    group: Group

    @property
    def name(self) -> str:
        """What the report calls them."""
        return self.group.name

    @property
    def num_particles(self) -> int | None:
        """Particles of TALD; None without."""
        return self.named.num_particles

    @property
    def accuracy(self) -> Accuracy:
        """Natural accuracy."""
        found = self.group.accuracy(NATURAL)
        assert found is not None
        return found

    def boundary(self, measure: str) -> Statistic | None:
        """Return MagSim (``"magnitude"``) or AngSim (``"angle"``) over the seeds; None where nobody measured."""
        values = self._boundaries(measure)
        return statistic(values.values()) if values else None

    def gain(self, other: Taught) -> Gain | None:
        """Return by how many points of accuracy these are better than others of the same seeds."""
        return paired(self._accuracies(), other._accuracies())

    def nearer(self, other: Taught, measure: str) -> Gain | None:
        """Return by how much MagSim or AngSim is larger than that of others of the same seeds."""
        return paired(self._boundaries(measure), other._boundaries(measure))

    def cost(self, other: Taught) -> Statistic | None:
        """Return how many times as long a mean epoch takes, paired by seed and device."""
        mine, theirs = self._seconds(), other._seconds()
        ratios = [value / theirs[key] for key, value in mine.items() if theirs.get(key, 0) > 0]
        return statistic(ratios) if ratios else None

    def _accuracies(self) -> dict[Any, float]:
        rows = {_pair_of(r): row for r in self.group.records for row in r.evaluations if row.attack == NATURAL}
        return {key: 100 * row.accuracy for key, row in rows.items()}

    def _boundaries(self, measure: str) -> dict[Any, float]:
        rows: dict[Any, BoundaryRow] = {_pair_of(r): row for r in self.group.records for row in r.boundary[:1]}
        values = {key: getattr(row, measure) for key, row in rows.items()}
        return {key: value for key, value in values.items() if value is not None}

    def _seconds(self) -> dict[Any, float]:
        taken = {(_pair_of(r), r.device): r.seconds_per_epoch for r in self.group.records}
        return {key: sum(values) / len(values) for key, values in taken.items() if values}


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """All students of one teacher on the same data.

    Args:
        name: of the data, where there are several, and of the teacher and the student.
        taught: the student alone first, then KD and BSS, the others as they come; without TALD before with it.
    """

    name: str
    taught: tuple[Taught, ...]

    @property
    def records(self) -> list[Record]:
        """The runs."""
        return [record for found in self.taught for record in found.group.records]

    @property
    def alone(self) -> Taught | None:
        """The student without a teacher; None where there is none, or several kinds of it."""
        found = [taught for taught in self.taught if taught.named.base == ALONE]
        return found[0] if len(found) == 1 else None

    @property
    def lines(self) -> dict[str, dict[int, Taught]]:
        """The methods with TALD: name of a line -> number of particles -> students."""
        lines: dict[str, dict[int, Taught]] = {}
        for found in self.taught:
            if found.num_particles is not None:
                lines.setdefault(found.named.line, {})[found.num_particles] = found
        return lines

    def plain(self, base: str) -> Taught | None:
        """Return the students by a method without TALD; None where there are none, or several kinds of them."""
        found = [taught for taught in self.taught if taught.named.base == base and taught.num_particles is None]
        return found[0] if len(found) == 1 else None

    def without(self, taught: Taught) -> Taught | None:
        """Return the students by the same method without its TALD or, where it has none, without its BSS."""
        if taught.num_particles is not None:
            return self.plain(taught.named.base)
        if not taught.named.base.startswith(SUPPORTED):
            return None
        wanted = [taught.named.settings.get(field) for field in _SAME_DISTILLATION]
        found = [
            other
            for other in self.taught
            if other.group.method == "KD"
            and other.num_particles is None
            and [other.named.settings.get(field) for field in _SAME_DISTILLATION] == wanted
        ]
        return found[0] if len(found) == 1 else None


def distilled(record: Record) -> bool:
    """Return whether a record has a student beside its teacher, and says how well it does; not one of explanations."""
    natural = any(row.attack == NATURAL for row in record.evaluations) and not record.agreement
    return natural and {row.role for row in record.networks} >= {"teacher", "student"}


def network(record: Record, role: str) -> NetworkRow:
    """Return the teacher or the student of a distillation."""
    return next(row for row in record.networks if row.role == role)


def lessons(records: Iterable[Record]) -> list[Lesson]:
    """Return the distillations, one lesson a data set and pair of networks.

    Args:
        records: any records.

    Returns:
        The lessons, in first-seen order.
    """
    found: list[tuple[str, list[Record]]] = []
    for part, data in headed(list(filter(distilled, records))):
        pairs: dict[Any, list[Record]] = {}
        for record in part:
            both = [network(record, role) for role in ("teacher", "student")]
            pairs.setdefault(tuple((row.name, row.num_parameters) for row in both), []).append(record)
        found += [(_heading(pair, list(pairs), data), own) for pair, own in pairs.items()]
    return [Lesson(name=name, taught=tuple(_taught(own))) for name, own in found]


def _heading(pair: Sequence[tuple[str, int]], pairs: Sequence[Sequence[tuple[str, int]]], data: str) -> str:
    """Name teacher and student, with their sizes where the names alone are ambiguous."""
    names = [[name for name, _ in other] for other in pairs]
    crowded = names.count([name for name, _ in pair]) > 1
    words = [f"{name} ({amount(size)} parameters)" if crowded else name for name, size in pair]
    text = f"{words[0]} \N{RIGHTWARDS ARROW} {words[1]}"
    return f"{data}: {text}" if data else text


def _taught(records: Sequence[Record]) -> list[Taught]:
    parts: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        parts.setdefault((json.dumps(method_of(record), sort_keys=True), record.label), []).append(record)
    groups = [tuple(part) for part in parts.values()]
    named = names_of([group[0] for group in groups])
    names = [name.name for name in named]
    found = [
        Taught(
            named=name,
            group=Group(
                name=name.name if names.count(name.name) == 1 else f"{name.name} ({group[0].label})", records=group
            ),
        )
        for name, group in zip(named, groups, strict=True)
    ]
    lines, families = [name.line for name in named], [_family(name.base) for name in named]

    def place_of(taught: Taught) -> tuple[Any, ...]:
        own, family = taught.named, _family(taught.named.base)
        place = {ALONE: -2, "KD": -1}.get(family, families.index(family))
        particles = own.num_particles
        return place, particles is not None, SUPPORTED in own.base, lines.index(own.line), particles or 0

    return sorted(found, key=place_of)


def _family(base: str) -> str:
    """Return what stands together in the table: KD with and without BSS."""
    return base.partition(" (")[0].partition(" + ")[0]


def _pair_of(record: Record) -> Any:
    """Return what two runs share that are compared: the seed and the data."""
    return record.seed, record.data
