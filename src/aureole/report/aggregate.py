"""Runs that differ in the seed alone become one row: their mean and sample standard deviation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aureole.core.records import DataRecord, DiversityRow, Record

NATURAL = "natural"
_OUTSIDE_THE_COMPARISON = {"seed", "labelled_seed", "folder"}


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """Mean, sample standard deviation (None for fewer than two values) and number of values."""

    mean: float
    spread: float | None
    count: int

    @property
    def bounds(self) -> tuple[float, float]:
        """One spread below and above the mean."""
        return self.mean - (self.spread or 0.0), self.mean + (self.spread or 0.0)


def statistic(values: Iterable[float]) -> Statistic:
    """Return mean and sample standard deviation; both are NaN when a value is not finite.

        mean = sum(v) / n,    spread = sqrt(sum((v - mean)^2) / (n - 1))

    Args:
        values: at least one number.

    Returns:
        The statistic.

    Example:
        >>> statistic([1.0, 2.0, 3.0])
        Statistic(mean=2.0, spread=1.0, count=3)
    """
    values = list(values)
    if not all(math.isfinite(value) for value in values):
        return Statistic(mean=math.nan, spread=math.nan if len(values) > 1 else None, count=len(values))
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Statistic(mean=mean, spread=None, count=1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Statistic(mean=mean, spread=math.sqrt(variance), count=len(values))


@dataclass(frozen=True, kw_only=True)
class Accuracy(Statistic):
    """An accuracy over the runs of one group.

    Args:
        interval: the 95 % interval of a single run; None for several.
        num_examples: the different numbers of examples that were tried, sorted.
    """

    interval: tuple[float, float] | None
    num_examples: tuple[int, ...]

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval of a single run; else one spread below and above the mean."""
        return self.interval if self.interval is not None else super().bounds


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one label: the same data, method and number of particles, over seeds.

    Args:
        name: what the report calls it: the label, and more where the label alone is ambiguous.
        records: the runs, at least one.
    """

    name: str
    records: tuple[Record, ...]

    @property
    def method(self) -> str:
        """The method's name."""
        return self.records[0].method

    @property
    def label(self) -> str:
        """The label that the runs share."""
        return self.records[0].label

    @property
    def num_particles(self) -> int | None:
        """Particles per example, or None."""
        return self.records[0].num_particles

    @property
    def seeds(self) -> list[int]:
        """The seeds, one a run."""
        return [record.seed for record in self.records]

    def accuracy(self, attack: str) -> Accuracy | None:
        """Return the accuracy under an attack, or None where no run tried it."""
        tried = [e for record in self.records for e in record.evaluations if e.attack == attack]
        if not tried:
            return None
        values = statistic(e.accuracy for e in tried)
        return Accuracy(
            mean=values.mean,
            spread=values.spread,
            count=values.count,
            interval=tried[0].interval if len(tried) == 1 else None,
            num_examples=tuple(sorted({e.num_examples for e in tried})),
        )

    def paper(self, attack: str) -> float | None:
        """Return what the paper reports under an attack, or None."""
        return next((record.paper[attack] for record in self.records if attack in record.paper), None)

    def curve(self, key: str) -> dict[int, Statistic]:
        """Return the statistic of one entry of the history at every epoch at which a run has it."""
        values: dict[int, list[float]] = {}
        for record in self.records:
            for index, row in enumerate(record.history):
                if key in row:
                    values.setdefault(int(row.get("epoch", index)), []).append(row[key])
        return {epoch: statistic(values[epoch]) for epoch in sorted(values)}

    def seconds_per_epoch(self) -> Statistic | None:
        """Return the time per epoch (the median epoch of each run), or None where no run has one."""
        medians = [_median(record.seconds_per_epoch) for record in self.records if record.seconds_per_epoch]
        return statistic(medians) if medians else None


def _median(values: Sequence[float]) -> float:
    middle, ordered = len(values) // 2, sorted(values)
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def split(records: Iterable[Record], *, by_device: bool = False) -> list[list[Record]]:
    """Split records into those that may be compared: the same data and, for times, the same device.

    Runs with few labels, or with a share of the images, may be compared with those that have as many of the same data:
    which images these are is up to the seed.

    Args:
        records: any records.
        by_device: also split by device.

    Returns:
        Lists of records, in first-seen order.
    """
    parts: dict[Any, list[Record]] = {}
    for record in records:
        parts.setdefault((_compared(record), record.device if by_device else None), []).append(record)
    return list(parts.values())


def _compared(record: Record) -> Any:
    """Return what runs on comparable data share; which images a share holds, or have labels, is up to the seed."""
    data = record.data
    if not (data.labelled_index or record.agreement):
        return data
    return data.name, data.num_train, data.num_validation, data.num_test, len(data.labelled_index)


def data_name(data: DataRecord) -> str:
    """Return the name of data, with the number of labels, or of labelled patients, where only a few have one.

    Example:
        >>> from dataclasses import replace
        >>> from aureole.core.records import DataRecord
        >>> data = DataRecord(name="digits", fingerprint="0123", num_train=2, num_validation=9, num_test=9)
        >>> data_name(data), data_name(replace(data, labelled_index=[3, 14]))
        ('digits', 'digits, 2 labels')
    """
    if data.labelled_patients:
        return f"{data.name}, {len(data.labelled_patients)} labelled patients"
    return f"{data.name}, {len(data.labelled_index):,} labels" if data.labelled_index else data.name


def group_runs(records: Iterable[Record]) -> list[Group]:
    """Group the records of one data set by label.

    Args:
        records: records that may be compared; those with neither accuracies nor epochs are left out.

    Returns:
        The groups, by method in first-seen order, then by number of particles; a label that stands for several numbers
        of particles, several methods or several victims becomes one group each, with a name that says which.
    """
    groups: dict[tuple[str, str, int | None, str], list[Record]] = {}
    for record in records:
        if record.evaluations or record.history or record.seconds_per_epoch:
            key = (record.label, record.method, record.num_particles, victim_of(record))
            groups.setdefault(key, []).append(record)
    labels = [label for label, *_ in groups]
    found = []
    for (label, method, particles, victim), runs in groups.items():
        more = victim or f"{method}, {count(particles)}"
        name = label if labels.count(label) == 1 else f"{label} ({more})"
        found.append(Group(name=name, records=tuple(runs)))
    methods = list(dict.fromkeys(group.method for group in found))
    return sorted(found, key=lambda group: (methods.index(group.method), group.num_particles or 0))


def victim_of(record: Record) -> str:
    """Return the name of the attacked classifier of a refinement; the empty text for other records."""
    if record.kind != "refinement":
        return ""
    folder = str(record.config.get("victim_folder", "")).replace("\\", "/").rstrip("/").rpartition("/")[2] or "victim"
    victim = record.config.get("victim")
    model = victim.get("model") if isinstance(victim, dict) else None
    name = model.get("name") if isinstance(model, dict) else model
    return f"{folder} ({name})" if isinstance(name, str) and name != folder else folder


def count(num_particles: int | None) -> str:
    """Return a number of particles in words.

    Example:
        >>> count(1), count(4), count(None)
        ('1 particle', '4 particles', 'no particles')
    """
    if num_particles is None:
        return "no particles"
    return f"{num_particles} particle{'' if num_particles == 1 else 's'}"


def attack_names(groups: Iterable[Group]) -> list[str]:
    """Return every attack that was evaluated, ``"natural"`` first, then in first-seen order."""
    names = dict.fromkeys(e.attack for group in groups for record in group.records for e in record.evaluations)
    return sorted(names, key=lambda name: name != NATURAL)


def particle_lines(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Arrange groups by what they have in common over the number of particles.

    Args:
        groups: groups of one data set; those without a number of particles are left out.

    Returns:
        The name of a line -> its groups, by number of particles. A line is a method, unless the method has two labels
        with the same number of particles; then it is a label, less the number.
    """
    counted = [group for group in groups if group.num_particles is not None]
    taken = [(group.method, group.num_particles) for group in counted]
    crowded = {method for method, particles in taken if taken.count((method, particles)) > 1}
    lines: dict[str, list[Group]] = {}
    for group in counted:
        lines.setdefault(
            stem(group.label, group.num_particles) if group.method in crowded else group.method, []
        ).append(group)
    return {name: sorted(line, key=lambda group: group.num_particles or 0) for name, line in lines.items()}


def stem(label: str, num_particles: int | None) -> str:
    """Return a label with its number of particles replaced by N.

    Example:
        >>> stem("ALD, 4 particles", 4)
        'ALD, N particles'
    """
    label = re.sub(rf"(?<![\d.]){num_particles}(?![\d.])", "N", label)
    return re.sub(r"\bN particle\b", "N particles", label)


def diversity_lines(records: Iterable[Record]) -> dict[str, dict[int, list[DiversityRow]]]:
    """Return sampler -> number of particles (ascending) -> rows, over all seeds of records of one data set."""
    lines: dict[str, dict[int, list[DiversityRow]]] = {}
    for record in records:
        for row in record.diversity:
            lines.setdefault(row.sampler, {}).setdefault(row.num_particles, []).append(row)
    return {sampler: dict(sorted(line.items())) for sampler, line in lines.items()}


def comparison_notes(groups: Sequence[Group]) -> list[str]:
    """Return what speaks against comparing the groups or averaging within them, one sentence each."""
    notes = []
    for group in groups:
        if len(set(group.seeds)) < len(group.seeds):
            notes.append(f"{group.name}: a seed occurs more than once, so the runs are not independent.")
        fields = sorted(differences([record.config for record in group.records]))
        if fields:
            notes.append(f"{group.name}: the runs differ in more than the seed ({', '.join(fields)}).")
    for attack in attack_names(groups):
        tried = [e.settings for g in groups for r in g.records for e in r.evaluations if e.attack == attack]
        fields = sorted(differences(tried))
        if fields:
            notes.append(f"{attack}: the attack's settings differ between runs ({', '.join(fields)}).")
    return notes


def differences(values: Sequence[dict[str, Any]]) -> set[str]:
    """Return the dotted names of the settings in which some dictionaries differ, less seeds and folders.

    Example:
        >>> differences([{"ball": {"radius": 0.3}, "seed": 0}, {"ball": {"radius": 0.1}, "seed": 1}])
        {'ball.radius'}
    """
    flat = [dict(leaves(value, "")) for value in values]
    names = {name for settings in flat for name in settings}
    return {name for name in names if any(settings.get(name) != flat[0].get(name) for settings in flat)}


def leaves(value: Any, name: str) -> Iterable[tuple[str, str]]:
    """Yield the settings in nested dictionaries, less seeds and folders.

    Args:
        value: a dictionary, or a setting.
        name: where it lies.

    Yields:
        The dotted name of a setting, and its value as Python writes it.

    Example:
        >>> dict(leaves({"ball": {"radius": 0.3}, "seed": 0}, ""))
        {'ball.radius': '0.3'}
    """
    if not isinstance(value, dict):
        yield name, repr(value)
        return
    for key, item in value.items():
        if key not in _OUTSIDE_THE_COMPARISON:
            yield from leaves(item, f"{name}.{key}" if name else key)


def data_of(records: Sequence[Record]) -> DataRecord:
    """Return the data of records that :func:`split` put together."""
    return records[0].data
