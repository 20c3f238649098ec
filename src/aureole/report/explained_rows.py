"""Explanations, arranged: by data and teacher, by method and share of the training images, paired by seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aureole.core.records import AgreementRow, ExplanationRow, NetworkRow, Record, wilson_interval
from aureole.report.aggregate import NATURAL, Accuracy, Group, Statistic, statistic
from aureole.report.gains import Gain, paired

MEDTEX, MEDEX, STUDENT = "MED-TEX", "MED-EX", "Student (only)"
POST_HOC = "post-hoc"  # the name of the accuracy in what the paper reports
AT_SIZE = "iou_at_size"

Figure = Literal["accuracy", "precision", "recall", "f1"]
Worth = Literal["iou_at_size", "pointing", "insertion", "deletion", "milliseconds"]

_FIRST = (MEDTEX, MEDEX, STUDENT)
_OWN = "own map"
_SHARE = re.compile(r",? ?(\d+) ?% of the images$")
_PAINTED = "painted lesions on"


@dataclass(frozen=True, kw_only=True)
class Students:
    """Students of one teacher by one method, from the same share of the training images, over the seeds.

    Args:
        method: what it is called: the label, less the share.
        share: of the training images, in (0, 1].
        group: the runs.
    """

    method: str
    share: float
    group: Group

    @property
    def maps(self) -> list[Maps]:
        """The maps that explain them, in first-seen order."""
        found = dict.fromkeys(row.attribution for record in self.group.records for row in record.explanations)
        return [Maps(students=self, attribution=name) for name in found]

    @property
    def network(self) -> NetworkRow | None:
        """The student, as the first run measured it."""
        return network(self.group.records[0], "student")

    @property
    def agreement(self) -> Accuracy | None:
        """How often a student's class is its teacher's; for a single run with the 95 % interval."""
        rows = [_agreement(record) for record in self.group.records]
        found = statistic(row.accuracy for row in rows)
        first, counts = rows[0], tuple(sorted({row.num_examples for row in rows}))
        interval = wilson_interval(round(first.accuracy * first.num_examples), first.num_examples)
        return Accuracy(
            mean=found.mean,
            spread=found.spread,
            count=found.count,
            interval=interval if len(rows) == 1 else None,
            num_examples=counts,
        )

    def figure(self, figure: Figure) -> Statistic:
        """Return accuracy, precision, recall or F1 against the teacher, over the seeds."""
        return statistic(getattr(_agreement(record), figure) for record in self.group.records)

    @property
    def natural(self) -> Accuracy | None:
        """How often a student's class is the true one."""
        return self.group.accuracy(NATURAL)

    def gain(self, other: Students) -> Gain | None:
        """Return by how many points of post-hoc accuracy these are better than others of the same seeds."""
        return paired(self._agreements(), other._agreements())

    def _agreements(self) -> dict[int, float]:
        return {record.seed: 100 * _agreement(record).accuracy for record in self.group.records}


@dataclass(frozen=True, kw_only=True)
class Maps:
    """The maps that one attribution makes of some students, over the seeds.

    Args:
        students: whose predictions are explained.
        attribution: its name in the records.
    """

    students: Students
    attribution: str

    @property
    def name(self) -> str:
        """What the report calls them: the method, and the attribution where it is not the method's own."""
        method = self.students.method
        return method if self.attribution in (method, _OWN) else f"{method}, {self.attribution}"

    @property
    def num_masks(self) -> int:
        """Test images with a mask."""
        return max(row.num_masks for row in self._rows.values())

    @property
    def overlaps(self) -> dict[int, Statistic]:
        """Number of pixels K -> IoU of the K highest scores with the masks, over the seeds."""
        found: dict[int, list[float]] = {}
        for row in self._rows.values():
            for count, value in zip(row.counts, row.iou, strict=True):
                found.setdefault(count, []).append(value)
        return {count: statistic(found[count]) for count in sorted(found)}

    def worth(self, what: Worth) -> Statistic | None:
        """Return a figure of the maps over the seeds; None where nobody measured it."""
        values = self._values(what)
        return statistic(values.values()) if values else None

    def gain(self, other: Maps) -> Gain | None:
        """Return by how many hundredths of IoU at the masks' sizes these are better than others of the same seeds."""
        mine, theirs = ({k: 100 * v for k, v in maps._values(AT_SIZE).items()} for maps in (self, other))
        return paired(mine, theirs)

    @property
    def _rows(self) -> dict[int, ExplanationRow]:
        records = self.students.group.records
        return {r.seed: row for r in records for row in r.explanations if row.attribution == self.attribution}

    def _values(self, what: Worth) -> dict[int, float]:
        found = {seed: getattr(row, what) for seed, row in self._rows.items()}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All students of one teacher on the same test images.

    Args:
        name: what tells it from the others of a page; empty where there is one.
        marked: what the masks mark, in words.
        students: the largest share first; MED-TEX and its variants before the others.
    """

    name: str
    marked: str
    students: tuple[Students, ...]

    @property
    def records(self) -> list[Record]:
        """The runs."""
        return [record for students in self.students for record in students.group.records]

    @property
    def shares(self) -> list[float]:
        """Shares of the training images, descending."""
        return list(dict.fromkeys(students.share for students in self.students))

    @property
    def methods(self) -> list[str]:
        """Names of the methods, MED-TEX and its variants first."""
        return sorted({s.method: None for s in self.students}, key=_place_of)

    def at(self, method: str, share: float) -> Students | None:
        """Return the students by a method from a share of the images; None where there are none."""
        return next((s for s in self.students if (s.method, s.share) == (method, share)), None)

    def of(self, share: float) -> list[Students]:
        """Return the students from one share of the images."""
        return [students for students in self.students if students.share == share]

    def own_maps(self, method: str, share: float) -> Maps | None:
        """Return the maps by which a method explains itself; None where it does not."""
        students = self.at(method, share)
        return next((maps for maps in students.maps if maps.name == method), None) if students else None

    def maps(self, share: float) -> list[Maps]:
        """Return all maps of the students from one share of the images."""
        return [maps for students in self.of(share) for maps in students.maps]


def explained(record: Record) -> bool:
    """Return whether a record has a student that was compared with its teacher on simplified images."""
    return bool(record.agreement)


def network(record: Record, role: str) -> NetworkRow | None:
    """Return the teacher or the student of a run; None where nobody measured it."""
    return next((row for row in record.networks if row.role == role), None)


def share_of(record: Record) -> float:
    """Return which share of the training images a student saw: by its configuration, else by its label, else all."""
    student = record.config.get("student", {})
    data = student.get("data") if isinstance(student, dict) else None
    fraction = data.get("fraction") if isinstance(data, dict) else None
    said = _SHARE.search(record.label)
    return float(fraction) if isinstance(fraction, int | float) else int(said[1]) / 100 if said else 1.0


def method_name(label: str) -> str:
    """Return a label less the share of the images.

    Example:
        >>> method_name("MED-TEX, 25% of the images"), method_name("L2X")
        ('MED-TEX', 'L2X')
    """
    return _SHARE.sub("", label) or label


def marked_by(data: str) -> str:
    """Return what the masks of a data set mark, in words.

    Example:
        >>> marked_by("painted lesions on drawn fundi"), marked_by("fish")
        ('painted lesions', 'masks')
    """
    return "painted lesions" if data.startswith(_PAINTED) else "masks"


def comparisons(records: Iterable[Record]) -> list[Comparison]:
    """Return the explanations, one comparison for each data set, teacher and scale.

    Args:
        records: any records.

    Returns:
        The comparisons, in first-seen order.
    """
    parts: dict[Any, list[Record]] = {}
    for record in filter(explained, records):
        parts.setdefault((record.data.name, _teacher(record), record.proxy_reason, record.data.num_test), []).append(
            record
        )
    return [
        Comparison(name=_heading(key, list(parts)), marked=marked_by(key[0]), students=tuple(_students(part)))
        for key, part in parts.items()
    ]


def gains(
    comparison: Comparison, method: str, other: str, value: Callable[[str, float], Any | None]
) -> dict[float, Gain]:
    """Return share of the images -> gain of a method over another.

    Args:
        comparison: the runs.
        method: whose gain it is.
        other: what it is compared with.
        value: what is compared, ``comparison.at`` or ``comparison.own_maps``.
    """
    found = {}
    for share in comparison.shares:
        mine, theirs = value(method, share), value(other, share)
        gain = None if mine is None or theirs is None else mine.gain(theirs)
        if gain is not None:
            found[share] = gain
    return found


def _agreement(record: Record) -> AgreementRow:
    return record.agreement[0]


def _teacher(record: Record) -> str:
    row = network(record, "teacher")
    return f"{row.name}, {row.num_parameters:,} parameters" if row else ""


def _heading(key: Sequence[Any], keys: Sequence[Sequence[Any]]) -> str:
    """Name a comparison by its data, and by what else differs from others on data of this name."""
    if len(keys) == 1:
        return ""
    alike = [other for other in keys if other[0] == key[0]]
    words = [key[1], key[2] or "the paper's scale", f"{key[3]:,} test images"]
    more = [word for place, word in enumerate(words, 1) if len({other[place] for other in alike}) > 1]
    return f"{key[0]} ({'; '.join(more)})" if more else key[0]


def _place_of(method: str) -> tuple[int, str]:
    return (_FIRST.index(method), "") if method in _FIRST else (len(_FIRST), method)


def _students(records: Sequence[Record]) -> list[Students]:
    parts: dict[tuple[str, float], list[Record]] = {}
    for record in records:
        parts.setdefault((method_name(record.label), share_of(record)), []).append(record)
    found = [
        Students(method=method, share=share, group=Group(name=f"{method}, {percent(share)}", records=tuple(part)))
        for (method, share), part in parts.items()
    ]
    return sorted(found, key=lambda students: (-students.share, _place_of(students.method)))


def percent(share: float) -> str:
    """Return a share in per cent.

    Example:
        >>> percent(0.25), percent(1.0)
        ('25 %', '100 %')
    """
    return f"{100 * share:g} %"
