"""What distillations say on the claims of the thesis, in plain sentences, for and against them."""

from __future__ import annotations

from aureole.report.aggregate import comparison_notes, differences
from aureole.report.distilled_names import SUPPORTED
from aureole.report.distilled_rows import MEASURES, Lesson, Taught, network
from aureole.report.gains import Gain, change_text, gain_text, listed, pooled, raised, verdict, wins_text
from aureole.report.layout import listing, share

_NOT_COMPARED = ("method", "label", "engine", "evaluation", "paper", "proxy_reason")


def opening(lesson: Lesson) -> str:
    """Say where student, teacher and the best method are."""
    teachers = sorted({network(record, "teacher").accuracy for record in lesson.records})
    text = f"The teacher reaches {listing([share(value) for value in teachers])}"
    alone, best = lesson.alone, max(lesson.taught, key=lambda taught: taught.accuracy.mean)
    if alone is not None:
        text += f", the student alone {share(alone.accuracy.mean)}"
    return text + ("." if best is alone else f", and at most {share(best.accuracy.mean)} on average ({best.name}).")


def findings(lesson: Lesson) -> list[str]:
    """Return what the runs show: whether distillation, TALD, its boundaries and more particles help.

    Args:
        lesson: students of one teacher.

    Returns:
        Sentences, each one complete without the others; none on what was not tried.
    """
    sentences = [_taught(lesson)]
    for line, found in lesson.lines.items():
        sentences += [_improves(lesson, line, found), _beats(lesson, line, found)]
        sentences += [_nearer(lesson, line, found), _more(line, found)]
    return [sentence for sentence in sentences if sentence]


def remarks(lesson: Lesson) -> list[str]:
    """Return what speaks against averaging and comparing the runs."""
    notes = comparison_notes([taught.group for taught in lesson.taught])
    students = [record.config.get("student", record.config) for record in lesson.records]
    fields = sorted(name for name in differences(students) if not name.startswith(_NOT_COMPARED))
    if fields:
        notes.append(f"The students differ in more than method and seed ({', '.join(fields)}).")
    teachers: dict[int, set[tuple[int, int]]] = {}
    for record in lesson.records:
        row = network(record, "teacher")
        teachers.setdefault(record.seed, set()).add((row.num_correct, row.num_examples))
    seeds = [str(seed) for seed, found in sorted(teachers.items()) if len(found) > 1]
    if seeds:
        notes.append(f"Students of one seed had teachers that differ (seed {listing(seeds)}).")
    return notes


def _taught(lesson: Lesson) -> str:
    """Say which methods beat the student alone, over all their numbers of particles."""
    alone = lesson.alone
    found: dict[str, list[Gain]] = {}
    for taught in lesson.taught:
        gain = None if alone is None or taught is alone else taught.gain(alone)
        if gain is not None:
            found.setdefault(taught.named.line, []).append(gain)
    return f"Against the student alone, the accuracy is higher {raised(found)}." if found else ""


def _gains(found: dict[int, Taught], other: Taught | None) -> dict[int, Gain]:
    """Return number of particles -> gain over others."""
    gains = {number: taught.gain(other) for number, taught in found.items()} if other is not None else {}
    return {number: gain for number, gain in gains.items() if gain is not None}


def _improves(lesson: Lesson, line: str, found: dict[int, Taught]) -> str:
    base = next(iter(found.values())).named.base
    return _against(line, found, lesson.plain(base), f"TALD improves {base}")


def _beats(lesson: Lesson, line: str, found: dict[int, Taught]) -> str:
    rival = lesson.plain(SUPPORTED)
    if next(iter(found.values())).group.method != "KD":
        return ""
    return _against(line, found, rival, f"{line} beats {SUPPORTED}")


def _against(line: str, found: dict[int, Taught], other: Taught | None, claim: str) -> str:
    gains = _gains(found, other)
    if other is None or not gains:
        return ""
    text = f"{line} against {other.name}, paired by seed: {listed(gains)}"
    return f"{text}; {verdict(pooled(gains.values()), claim)}."


def _nearer(lesson: Lesson, line: str, found: dict[int, Taught]) -> str:
    """Say whether the boundaries are nearer to the teacher's than without TALD."""
    base = lesson.plain(next(iter(found.values())).named.base)
    if base is None:
        return ""
    parts: dict[str, list[str]] = {}
    for measure, name in MEASURES.items():
        gains = [gain for taught in found.values() if (gain := taught.nearer(base, measure)) is not None]
        if gains:
            whole = pooled(gains)
            text = f"{name} changes by {change_text(whole)} ({wins_text(whole, 'greater')})"
            parts.setdefault(verdict(whole, "TALD brings the boundaries nearer"), []).append(text)
    texts = [f"{listing(changes)}; {meaning}" for meaning, changes in parts.items()]
    over = f", over {listing([str(number) for number in found])} particles" if len(found) > 1 else ""
    return f"The boundaries of {line} against those of {base.name}{over}: {'. '.join(texts)}." if texts else ""


def _more(line: str, found: dict[int, Taught]) -> str:
    """Compare the largest number of particles with the smallest."""
    few, most = min(found), max(found)
    gain = found[most].gain(found[few]) if few != most else None
    if gain is None:
        return ""
    text = f"{most} particles of {line} instead of {few} change the accuracy by {gain_text(gain)} points"
    return f"{text} ({wins_text(gain)}): {verdict(gain, 'more particles help')}."
