"""What runs with few labels say on the claims of the thesis, in plain sentences, for and against them."""

from __future__ import annotations

from collections.abc import Iterable

from aureole.report.aggregate import count, differences
from aureole.report.few_rows import Gain, Runs, Study
from aureole.report.layout import amount, listing, points, share

_NOT_COMPARED = ("method", "label", "engine", "evaluation", "paper", "proxy_reason")


def findings(study: Study) -> list[str]:
    """Return what the runs show: whether unlabelled images, more particles, diverse particles and Mixup help.

    Args:
        study: runs on the same data.

    Returns:
        Sentences, each one complete without the others; none on what was not tried.
    """
    sentences = []
    for labels in study.labels:
        sentences.append(_unlabelled(study, labels))
        for line in [line for method in ("VAT", "ALD") for line in study.named(method)]:
            sentences.append(_more_particles(study, labels, line))
        for first, second in (("ALD", "VAT"), ("ALD + Mixup", "VAT + Mixup")):
            sentences += _pairs(study, labels, first, second, diverse=True)
        for first, second in (("VAT + Mixup", "VAT"), ("ALD + Mixup", "ALD")):
            sentences += _pairs(study, labels, first, second, diverse=False)
    return [sentence for sentence in sentences if sentence]


def remarks(study: Study) -> list[str]:
    """Return what speaks against comparing runs with as many labels."""
    notes = []
    for labels in study.labels:
        configs = [record.config for runs in study.at(labels) for record in runs.group.records]
        fields = sorted(name for name in differences(configs) if not name.startswith(_NOT_COMPARED))
        if fields:
            notes.append(f"{_with(labels)}, the runs differ in more than method and seed ({', '.join(fields)}).")
    return notes


def gain_text(gain: Gain) -> str:
    """Return mean and spread of a gain, in points.

    Example:
        >>> gain_text(Gain(points={0: 1.0, 1: 2.0}))
        '+1.50 ± 0.71'
    """
    found = gain.statistic
    return points(found.mean) if found.spread is None else f"{points(found.mean)} ± {found.spread:.2f}"


def wins_text(gain: Gain) -> str:
    """Return in how many of the pairs runs are better.

    Example:
        >>> wins_text(Gain(points={0: 1.0, 1: -2.0})), wins_text(Gain(points={0: 1.0}))
        ('better in 1 of 2 seeds', 'better in 1 of 1 seed')
    """
    return f"better in {gain.wins} of {len(gain.points)} seed{'' if len(gain.points) == 1 else 's'}"


def _with(labels: int) -> str:
    return f"With {amount(labels)} labels"


def _verdict(gain: Gain, claim: str) -> str:
    """Say what a gain means for a claim, such as ``"more particles help"``."""
    if len(gain.points) < 2:
        return f"one seed does not decide whether {claim}"
    return {
        1: f"here, {claim}",
        -1: f"this speaks against the claim that {claim}",
        0: f"no clear difference, so these runs do not show that {claim}",
    }[gain.direction]


def _unlabelled(study: Study, labels: int) -> str:
    """Say which methods beat the labels alone, over all their numbers of particles."""
    base = study.supervised(labels)
    if base is None:
        return ""
    found: dict[str, list[Gain]] = {}
    for runs in study.at(labels):
        gain = None if runs is base else runs.gain(base)
        if gain is not None:
            found.setdefault(runs.line, []).append(gain)
    if not found:
        return ""
    words: dict[str, list[str]] = {"always": [], "sometimes": [], "never": []}
    for line, gains in found.items():
        won, tried = sum(gain.wins for gain in gains), sum(len(gain.points) for gain in gains)
        kind = "always" if won == tried else "sometimes" if won else "never"
        words[kind].append(f"{line} ({won} of {tried})" if kind == "sometimes" else line)
    heads = {"always": "in every run with", "sometimes": "in some with", "never": "in none with"}
    parts = [f"{heads[kind]} {listing(names)}" for kind, names in words.items() if names]
    text = f"{_with(labels)} and nothing else, the accuracy is {share(base.accuracy.mean)}"
    return f"{text}. Unlabelled images raise it {'; '.join(parts)}."


def _more_particles(study: Study, labels: int, line: str) -> str:
    """Compare the largest number of particles with one (thesis, figure 5.3)."""
    runs = {number: found for number, found in study.line(line, labels).items() if number is not None}
    most = max(runs, default=1)
    if most == 1 or 1 not in runs:
        return ""
    gain = runs[most].gain(runs[1])
    if gain is None:
        return ""
    text = f"{_with(labels)}, {most} particles of {line} instead of one change the accuracy by {gain_text(gain)} points"
    return f"{text} ({wins_text(gain)}): {_verdict(gain, 'more particles help')}."


def _pairs(study: Study, labels: int, first: str, second: str, *, diverse: bool) -> list[str]:
    """Compare every line of a method with every one of another, at equal numbers of particles."""
    found = []
    for one in study.named(first):
        for other in study.named(second):
            gains = _at_equal_counts(study.line(one, labels), study.line(other, labels))
            found.append(_diverse(gains, labels, one, other) if diverse else _mixed(gains, labels, one, other))
    return found


def _at_equal_counts(one: dict[int | None, Runs], other: dict[int | None, Runs]) -> dict[int, Gain]:
    """Return number of particles -> gain of the one over the other."""
    counts = sorted(number for number in one if number is not None and number in other)
    gains = {number: one[number].gain(other[number]) for number in counts}
    return {number: gain for number, gain in gains.items() if gain is not None}


def _diverse(gains: dict[int, Gain], labels: int, one: str, other: str) -> str:
    """Compare particles that repel with independent restarts; a single one, which cannot, shows what else differs."""
    several = {number: gain for number, gain in gains.items() if number > 1}
    if not several:
        return ""
    pooled = _pooled(several.values())
    text = f"{_with(labels)}, {one} against {other} with as many restarts, paired by seed: {_listed(several)}"
    text += f"; {_verdict(pooled, 'diverse particles beat restarts')}."
    if 1 not in gains:
        return text
    single = gains[1]
    text += f" With a single particle, which has no other to repel, the difference is {gain_text(single)} points"
    beyond = {key: value - single.points[key] for key, value in pooled.points.items() if key in single.points}
    if not beyond:
        return f"{text}."
    text += f"; with several it is larger by {gain_text(Gain(points=beyond))}"
    more = pooled.direction == 1 and Gain(points=beyond).direction != 1
    return f"{text}{', so these runs do not show that diversity is the reason' if more else ''}."


def _mixed(gains: dict[int, Gain], labels: int, one: str, other: str) -> str:
    if not gains:
        return ""
    text = f"{_with(labels)}, {one} against {other} at equal numbers of particles, paired by seed: {_listed(gains)}"
    return f"{text}; {_verdict(_pooled(gains.values()), 'Mixup helps')}."


def _listed(gains: dict[int, Gain]) -> str:
    """Return the gain at each number of particles, and the mean where there are several."""
    parts = []
    for number, gain in gains.items():
        mean = points(gain.statistic.mean)
        short = f"{mean} at {number} ({gain.wins} of {len(gain.points)})"
        parts.append(short if parts else f"{mean} points at {count(number)} ({wins_text(gain)})")
    if len(parts) == 1:
        return parts[0]
    pooled = _pooled(gains.values())
    return f"{listing(parts)}; over these, {gain_text(pooled)} ({wins_text(pooled)})"


def _pooled(gains: Iterable[Gain]) -> Gain:
    """Return the mean gain of each seed over the numbers of particles: those of one seed are not independent."""
    found: dict[object, list[float]] = {}
    for gain in gains:
        for key, value in gain.points.items():
            found.setdefault(key, []).append(value)
    return Gain(points={key: sum(values) / len(values) for key, values in found.items()})
