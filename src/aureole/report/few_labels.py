"""Learning from few labels (thesis, section 5.5.2): accuracy, and what the unlabelled images changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from aureole.core.records import Record
from aureole.report import figures
from aureole.report.accuracies import accuracy_parts, accuracy_text
from aureole.report.aggregate import NATURAL, Accuracy, Group, comparison_notes
from aureole.report.few_changes import confusion_blocks
from aureole.report.few_rows import Runs, Study, studies
from aureole.report.few_words import findings, remarks
from aureole.report.gains import gain_text, wins_text
from aureole.report.layout import (
    DASH,
    Block,
    Cell,
    Panel,
    Section,
    Style,
    Table,
    amount,
    plain_table,
    share,
)
from aureole.report.sections import count_table, group_styles, section

_Points = dict[str, dict[int, Accuracy]]
_CAPTION = (
    "Natural accuracy: mean ± sample standard deviation over seeds; for a single run, its 95 % Wilson interval. Gain:"
    " points of accuracy above the labels alone, paired by seed and labelled images. The highest mean of a column is"
    " marked; a difference within the spread is no ranking"
)
_NOTE = (
    "Points: mean over seeds. Bars and shading: one sample standard deviation; for a single run, its 95 % interval."
    " The particles of VAT are independent restarts. Against the number of labels stands each method with the largest"
    " number of particles that it has everywhere."
)


def few_labels(records: Sequence[Record], colours: dict[str, int]) -> Section | None:
    """Return curves, a table, findings and confusions of the runs with few labels, one block a data set and more."""
    blocks: list[Block] = []
    found = studies(records)
    for study in found:
        heading = study.name if len(found) > 1 else ""
        blocks.append(_accuracy_block(study, heading, colours))
        blocks += confusion_blocks(study, heading)
    return section("few-labels", "Learning from few labels", blocks)


def _accuracy_block(study: Study, heading: str, colours: dict[str, int]) -> Block:
    styles = _styles(study, colours)
    panels, tables, drawn = _drawings(study, heading, styles)
    return Block(
        heading=heading,
        sentence=_sentence(study),
        findings=findings(study),
        legend=[(figures.swatch(styles[name], marked=name in drawn), name) for name in styles if name in drawn],
        panels=panels,
        note=_NOTE if panels else "",
        tables=[gain_table(study), *tables],
        remarks=notes_on(study),
    )


def notes_on(study: Study) -> list[str]:
    """Return what speaks against averaging and comparing the runs."""
    within = [note for labels in study.labels for note in comparison_notes([runs.group for runs in study.at(labels)])]
    return list(dict.fromkeys([*within, *remarks(study)]))


def _sentence(study: Study) -> str:
    """Say how far the best mean is above the labels alone."""
    parts = []
    for labels in study.labels:
        base, found = study.supervised(labels), study.at(labels)
        best = max(found, key=lambda runs: runs.accuracy.mean)
        text = f"with {amount(labels)} labels, the highest mean is {share(best.accuracy.mean)} ({best.name})"
        if base is not None and best is not base:
            text += f", and {share(base.accuracy.mean)} with these labels alone"
        parts.append(text)
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def gain_table(study: Study) -> Table:
    """Return accuracy and gain of every method and number of particles, two columns a number of labels."""
    head = [Cell(text="method")]
    for labels in study.labels:
        head += [Cell(text="accuracy", details=(f"{amount(labels)} labels",)), Cell(text="gain, in points")]
    best = {labels: _best(study.at(labels)) for labels in study.labels}
    rows: dict[str, dict[int, Runs]] = {}
    for runs in study.runs:
        rows.setdefault(runs.name, {})[runs.num_labels] = runs
    cells = []
    for name, found in rows.items():
        row = [Cell(text=name)]
        for labels in study.labels:
            row += _cells(found.get(labels), study.supervised(labels), best[labels])
        cells.append(row)
    return Table(caption=_CAPTION, head=head, rows=cells)


def _best(runs: Sequence[Runs]) -> float | None:
    return max(found.accuracy.mean for found in runs) if len(runs) > 1 else None


def _cells(runs: Runs | None, base: Runs | None, best: float | None) -> list[Cell]:
    if runs is None:
        return [Cell(text=DASH), Cell(text=DASH)]
    (text, *details), seeds, paper = (
        accuracy_parts(runs.accuracy),
        len(set(runs.group.seeds)),
        runs.group.paper(NATURAL),
    )
    details.append(f"{seeds} seed{'' if seeds == 1 else 's'}")
    details += [] if paper is None else [f"paper {share(paper)}"]
    gain = None if base is None or runs is base else runs.gain(base)
    return [
        Cell(text=text, details=tuple(details), best=runs.accuracy.mean == best),
        Cell(text=DASH) if gain is None else Cell(text=gain_text(gain), details=(wins_text(gain),)),
    ]


def _styles(study: Study, colours: dict[str, int]) -> dict[str, Style]:
    firsts = {runs.line: Group(name=runs.line, records=runs.group.records) for runs in reversed(study.runs)}
    styles = group_styles([firsts[line] for line in study.lines], colours)
    return {
        name: replace(style, dash=style.dash + style.colour // figures.NUM_COLOURS) for name, style in styles.items()
    }


def _drawings(study: Study, heading: str, styles: dict[str, Style]) -> tuple[list[Panel], list[Table], set[str]]:
    """Draw accuracy against particles, one panel a number of labels, and against labels; name the lines drawn."""
    panels, tables, drawn = [], list[Table](), set[str]()
    for labels in study.labels:
        lines = _over_particles(study, labels)
        if not any(len(values) > 1 for values in lines.values()):
            continue
        base, title = study.supervised(labels), f"accuracy with {amount(labels)} labels"
        levels = {} if base is None else {base.line: base.accuracy}
        panels.append(_panel(title, "number of particles", lines, styles, heading, levels))
        tables.append(count_table(f"{title.capitalize()} by number of particles", _texts(lines)))
        drawn |= {*lines, *levels}
    longest = _over_labels(study)
    if any(len(line) > 1 for line in longest.values()):
        title = "accuracy against the number of labels"
        points = {name: {runs.num_labels: runs.accuracy for runs in line} for name, line in longest.items()}
        panels.append(_panel(title, "number of labels", points, styles, heading, {}))
        texts = {line[0].name: _texts(points)[name] for name, line in longest.items()}
        rows = [[name, *(text.get(labels, DASH) for labels in study.labels)] for name, text in texts.items()]
        tables.append(plain_table(title.capitalize(), ["labels", *map(amount, study.labels)], rows))
        drawn |= set(longest)
    return panels, tables, drawn


def _panel(
    title: str, axis: str, lines: _Points, styles: dict[str, Style], heading: str, levels: Mapping[str, Accuracy]
) -> Panel:
    drawing = figures.draw_counts(
        [figures.line(name, styles[name], values) for name, values in lines.items()],
        name=f"few-{heading}-{title}",
        labels=(axis, title),
        levels=[figures.line(name, styles[name], {0: value}) for name, value in levels.items()],
    )
    return Panel(title=title, drawing=drawing)


def _texts(lines: _Points) -> dict[str, dict[int, str]]:
    return {name: {place: accuracy_text(value) for place, value in values.items()} for name, values in lines.items()}


def _over_particles(study: Study, labels: int) -> _Points:
    found = {name: study.line(name, labels) for name in study.lines}
    points = {
        name: {number: runs.accuracy for number, runs in line.items() if number is not None}
        for name, line in found.items()
    }
    return {name: values for name, values in points.items() if values}


def _over_labels(study: Study) -> dict[str, list[Runs]]:
    """Return each line with the largest number of particles that it has at every number of labels."""
    found: dict[str, list[Runs]] = {}
    for name in study.lines:
        lines = [line for labels in study.labels if (line := study.line(name, labels))]
        common = [number for number in lines[0] if all(number in line for line in lines)]
        if common:
            most = max(common, key=lambda number: number or 0)
            found[name] = [line[most] for line in lines]
    return found
