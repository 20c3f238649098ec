"""What explanations say on the claims of thesis chapter 4, in plain sentences, for and against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from aureole.core.records import Record
from aureole.report.aggregate import Group, comparison_notes, statistic
from aureole.report.explained_rows import (
    MEDEX,
    MEDTEX,
    STUDENT,
    Comparison,
    Students,
    gains,
    network,
    percent,
)
from aureole.report.gains import Gain, gain_text, pooled, raised, verdict, wins_text
from aureole.report.layout import amount, listing, number, share

_TIMES = "\N{MULTIPLICATION SIGN}"


def opening(comparison: Comparison) -> str:
    """Say which students agree best with their teacher from the most images."""
    most = comparison.shares[0]
    found = [(students.figure("accuracy").mean, students) for students in comparison.of(most)]
    value, best = max(found, key=lambda pair: pair[0])
    text = f"Students that saw {percent(most)} of the training images give their teacher's class to at most"
    return f"{text} {share(value)} of the test images on average ({best.method})."


def findings(comparison: Comparison) -> list[str]:
    """Return what the runs show: MED-TEX against its variants and rivals, fewer images, size and time.

    Args:
        comparison: students of one teacher.

    Returns:
        Sentences, each one complete without the others; none on what was not tried.
    """
    agree, overlap = "post-hoc accuracy", f"IoU with {comparison.marked} at their size"
    claims = [
        (agree, comparison.at, MEDEX, "what the layers in between tell improves a student"),
        (agree, comparison.at, STUDENT, "an explainer in front improves a student"),
        (overlap, comparison.own_maps, MEDEX, "what the layers in between tell improves a map"),
    ]
    sentences = [
        _against(other, what, gains(comparison, MEDTEX, other, value), claim) for what, value, other, claim in claims
    ]
    sentences += _rivals(comparison, agree, comparison.at) + _rivals(comparison, overlap, comparison.own_maps)
    sentences += [_fewer(comparison), *_sizes(comparison)]
    return [sentence for sentence in sentences if sentence]


def remarks(comparison: Comparison) -> list[str]:
    """Return what speaks against averaging and comparing the runs."""
    notes = comparison_notes([_comparable(students.group) for students in comparison.students])
    teachers: dict[int, set[tuple[int, int]]] = {}
    for record in comparison.records:
        row = network(record, "teacher")
        if row is not None:
            teachers.setdefault(record.seed, set()).add((row.num_correct, row.num_examples))
    seeds = [str(seed) for seed, found in sorted(teachers.items()) if len(found) > 1]
    return notes + ([f"Students of one seed had teachers that differ (seed {listing(seeds)})."] if seeds else [])


def _against(other: str, what: str, found: Mapping[float, Gain], claim: str) -> str:
    """Compare MED-TEX with another method at each share of the images."""
    if not found:
        return ""
    parts = [f"{gain_text(gain)} points from {percent(at)} ({wins_text(gain)})" for at, gain in found.items()]
    whole = pooled(found.values())
    text = f"MED-TEX against {other}, {what}, paired by seed: {listing(parts)} of the images"
    text += f"; over these, {gain_text(whole)} ({wins_text(whole)})" if len(found) > 1 else ""
    return f"{text}; {verdict(whole, claim)}."


def _rivals(comparison: Comparison, what: str, value: Callable[[str, float], Any]) -> list[str]:
    """Say against which rivals MED-TEX is ahead, and by how much against the best of them."""
    rivals = [name for name in comparison.methods if name not in (MEDTEX, MEDEX, STUDENT)]
    found = {name: gains(comparison, MEDTEX, name, value) for name in rivals}
    found = {name: by_share for name, by_share in found.items() if by_share}
    if not found:
        return []
    text = f"Against its rivals, paired by seed, MED-TEX has the higher {what}"
    sentences = [f"{text} {raised({name: list(by_share.values()) for name, by_share in found.items()})}."]
    best = min(found, key=lambda name: pooled(found[name].values()).statistic.mean)
    return [*sentences, _against(best, what, found[best], f"MED-TEX beats {best}, the rival that comes nearest")]


def _fewer(comparison: Comparison) -> str:
    """Say what the smallest share of the images costs, MED-TEX and its rivals."""
    most, least = comparison.shares[0], comparison.shares[-1]
    changes = {name: _change(comparison.at(name, least), comparison.at(name, most)) for name in comparison.methods}
    changed = {name: gain for name, gain in changes.items() if gain is not None}
    mine = changed.pop(MEDTEX, None)
    if most == least or mine is None:
        return ""
    text = f"{percent(least)} of the images instead of {percent(most)} change the post-hoc accuracy of MED-TEX by"
    text += f" {gain_text(mine)} points ({wins_text(mine, 'higher')}{_published(comparison, least, most)})"
    maps = [comparison.own_maps(MEDTEX, at) for at in (least, most)]
    overlap = maps[0].gain(maps[1]) if maps[0] is not None and maps[1] is not None else None
    if overlap is not None:
        text += f" and its IoU with the {comparison.marked} by {gain_text(overlap)} points"
    if changed:
        others = sorted((gain.statistic.mean, name) for name, gain in changed.items())
        ends = [f"{gain_text(changed[name])} ({name})" for _, name in dict.fromkeys((others[0], others[-1]))]
        text += f"; the accuracy of the others by {' to '.join(ends)}"
    return f"{text}: {_loss(mine)}."


def _change(few: Students | None, many: Students | None) -> Gain | None:
    return None if few is None or many is None else few.gain(many)


def _published(comparison: Comparison, least: float, most: float) -> str:
    found = [comparison.at(MEDTEX, at) for at in (least, most)]
    values = [students.group.paper("post-hoc") for students in found if students is not None]
    if len(values) < 2 or values[0] is None or values[1] is None:
        return ""
    return f"; paper {gain_text(Gain(points={0: 100 * (values[0] - values[1])}))}"


def _loss(change: Gain) -> str:
    if len(change.points) < 2:
        return "one seed does not decide whether it loses by that"
    words = {-1: "here, it loses in every run", 1: "here, it loses nothing", 0: "no clear loss"}
    return words[change.direction]


def _sizes(comparison: Comparison) -> list[str]:
    """Compare MED-TEX's student, or else the first method's, with the teacher in size and time."""
    name = MEDTEX if MEDTEX in comparison.methods else comparison.methods[0]
    records = [r for s in comparison.students if s.method == name for r in s.group.records]
    pairs = [(network(record, "teacher"), network(record, "student")) for record in records]
    rows = [(teacher, student) for teacher, student in pairs if teacher is not None and student is not None]
    if not rows:
        return []
    teacher, student = rows[0]
    ratio = statistic(theirs.milliseconds / mine.milliseconds for theirs, mine in rows).mean
    taken = [statistic(row.milliseconds for row in column).mean for column in zip(*rows, strict=True)]
    text = f"The student of {name}, with its explainer, has {amount(student.num_parameters)} parameters"
    text += f" ({student.megabytes:.2f} MB), the teacher {number(teacher.num_parameters / student.num_parameters, 3)}"
    text += f" {_TIMES} as many: {amount(teacher.num_parameters)} ({teacher.megabytes:.2f} MB); an image takes the"
    text += f" student {number(taken[1], 3)} ms, the teacher {number(taken[0], 3)} ms, {number(ratio, 3)} {_TIMES} as"
    return [f"{text} long."]


def _comparable(group: Group) -> Group:
    """Return the runs less the seed that chooses the share of the images, which goes with the run's own."""
    return Group(name=group.name, records=tuple(map(_without_seed, group.records)))


def _without_seed(record: Record) -> Record:
    student = record.config.get("student")
    data: Any = student.get("data") if isinstance(student, dict) else None
    if not isinstance(student, dict) or not isinstance(data, dict):
        return record
    kept = {name: value for name, value in data.items() if name != "fraction_seed"}
    return replace(record, config={**record.config, "student": {**student, "data": kept}})
