"""What runs with few labels say on the claims of the thesis, in plain sentences, for and against them."""

from __future__ import annotations

from aureole.report.aggregate import differences
from aureole.report.few_rows import Runs, Study
from aureole.report.gains import Gain, gain_text, listed, pooled, raised, verdict, wins_text
from aureole.report.layout import amount, share

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


def _with(labels: int) -> str:
    return f"With {amount(labels)} labels"


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
    text = f"{_with(labels)} and nothing else, the accuracy is {share(base.accuracy.mean)}"
    return f"{text}. Unlabelled images raise it {raised(found)}."


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
    return f"{text} ({wins_text(gain)}): {verdict(gain, 'more particles help')}."


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
    whole = pooled(several.values())
    text = f"{_with(labels)}, {one} against {other} with as many restarts, paired by seed: {listed(several)}"
    text += f"; {verdict(whole, 'diverse particles beat restarts')}."
    if 1 not in gains:
        return text
    single = gains[1]
    text += f" With a single particle, which has no other to repel, the difference is {gain_text(single)} points"
    beyond = {key: value - single.points[key] for key, value in whole.points.items() if key in single.points}
    if not beyond:
        return f"{text}."
    text += f"; with several it is larger by {gain_text(Gain(points=beyond))}"
    more = whole.direction == 1 and Gain(points=beyond).direction != 1
    return f"{text}{', so these runs do not show that diversity is the reason' if more else ''}."


def _mixed(gains: dict[int, Gain], labels: int, one: str, other: str) -> str:
    if not gains:
        return ""
    text = f"{_with(labels)}, {one} against {other} at equal numbers of particles, paired by seed: {listed(gains)}"
    return f"{text}; {verdict(pooled(gains.values()), 'Mixup helps')}."
