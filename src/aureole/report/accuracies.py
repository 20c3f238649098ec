"""The table of methods and attacks, and accuracy against the number of particles (thesis, Figures 5.4 and 5.5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from aureole.core.records import Record
from aureole.report import figures
from aureole.report.aggregate import (
    NATURAL,
    Accuracy,
    Group,
    attack_names,
    comparison_notes,
    group_runs,
    particle_lines,
)
from aureole.report.apart import untold
from aureole.report.layout import DASH, Block, Cell, Panel, Section, Table, amount, plain_table, share
from aureole.report.sections import count_table, line_styles, over_data, section, several_counts


def accuracies(records: Sequence[Record]) -> Section | None:
    """Return the table of methods and attacks, one a data set."""
    return section("accuracy", "Accuracy under attack", over_data(records, _accuracy_block))


def _accuracy_block(records: list[Record], heading: str) -> Block | None:
    records = untold(records)
    groups = [group for group in group_runs(records) if any(record.evaluations for record in group.records)]
    attacks = attack_names(groups)
    if not attacks:
        return None
    caption = (
        "Share of images classified correctly: mean ± sample standard deviation over seeds; for a single run, its "
        "95 % Wilson interval. The highest mean of a column is marked; a difference within the spread is no ranking."
    )
    if any(record.paper for record in records):
        caption += " Below some of them: what the paper reports."
    table = Table(
        caption=caption,
        head=[Cell(text="run"), Cell(text="seeds"), *(_attack_head(groups, attack) for attack in attacks)],
        rows=_accuracy_rows(groups, attacks),
    )
    return Block(
        heading=heading,
        sentence=_accuracy_sentence(groups, attacks),
        tables=[table, *_settings_table(groups, attacks)],
        remarks=comparison_notes(groups),
    )


def _best(groups: Sequence[Group], attacks: Sequence[str]) -> dict[str, float]:
    """Return the highest mean of every column; a column with one value has no best."""
    best = {}
    for attack in attacks:
        means = [value.mean for group in groups if (value := group.accuracy(attack)) is not None]
        if len(means) > 1:
            best[attack] = max(means)
    return best


def _attack_head(groups: Sequence[Group], attack: str) -> Cell:
    sizes = sorted({size for group in groups if (value := group.accuracy(attack)) for size in value.num_examples})
    span = amount(sizes[0]) if len(sizes) == 1 else f"{amount(sizes[0])} to {amount(sizes[-1])}"
    return Cell(text=attack, details=(f"{span} images",))


def _accuracy_rows(groups: Sequence[Group], attacks: Sequence[str]) -> list[list[Cell]]:
    best = _best(groups, attacks)
    proxies = [any(record.proxy for record in group.records) for group in groups]
    rows = []
    for group, proxy in zip(groups, proxies, strict=True):
        details = ("at proxy scale",) if proxy and not all(proxies) else ()
        seeds = Cell(text=str(len(set(group.seeds))))
        rows.append([Cell(text=group.name, details=details), seeds, *_accuracy_cells(group, attacks, best)])
    return rows


def _accuracy_cells(group: Group, attacks: Sequence[str], best: dict[str, float]) -> list[Cell]:
    cells = []
    for attack in attacks:
        value, paper = group.accuracy(attack), group.paper(attack)
        text, *details = [DASH] if value is None else accuracy_parts(value)
        if value is not None and value.count < len(group.records):
            details.append(f"{value.count} of the runs")
        if paper is not None:
            details.append(f"paper {share(paper)}")
        cells.append(Cell(text=text, details=tuple(details), best=value is not None and value.mean == best.get(attack)))
    return cells


def accuracy_parts(value: Accuracy) -> list[str]:
    """Return an accuracy in one text with its spread, or in two: the accuracy and the interval of a single run.

    Example:
        >>> accuracy_parts(Accuracy(mean=0.85, spread=None, count=1, interval=(0.8, 0.9), num_examples=(100,)))
        ['0.850', '[0.800, 0.900]']
    """
    if value.interval is None:
        return [f"{share(value.mean)} ± {share(value.spread or 0.0)}"]
    low, high = value.interval
    return [share(value.mean), f"[{share(low)}, {share(high)}]"]


def accuracy_text(value: Accuracy) -> str:
    """Return an accuracy as the tables show it.

    Example:
        >>> accuracy_text(Accuracy(mean=0.85, spread=None, count=1, interval=(0.8, 0.9), num_examples=(100,)))
        '0.850 [0.800, 0.900]'
    """
    return " ".join(accuracy_parts(value))


def hardest(groups: Sequence[Group], attacks: Sequence[str]) -> str:
    """Return the attack with the lowest mean accuracy, among those tried on every group if there is one."""
    everywhere = [attack for attack in attacks if all(group.accuracy(attack) is not None for group in groups)]

    def mean(attack: str) -> float:
        values = [value.mean for group in groups if (value := group.accuracy(attack)) is not None]
        return sum(values) / len(values)

    return min(everywhere or attacks, key=mean)


def _accuracy_sentence(groups: Sequence[Group], attacks: Sequence[str]) -> str:
    attack = hardest(groups, attacks)
    found = [(value, group.name) for group in groups if (value := group.accuracy(attack)) is not None]
    ranked = sorted(found, key=lambda pair: -pair[0].mean)
    (first, name), *others = ranked
    where = "without an attack" if attack == NATURAL else f"under {attack}, the strongest attack here,"
    if not others:
        return f"The accuracy {where} is {share(first.mean)} ({name})."
    second, other = others[0]
    widest = max((value.bounds[1] - value.bounds[0]) / 2 for value in (first, second))
    end = "within" if first.mean - second.mean <= widest else "larger than"
    return (
        f"The highest accuracy {where} is {share(first.mean)} ({name}), the next is {share(second.mean)} ({other}): "
        f"a difference {end} the spread of the runs."
    )


def _settings_table(groups: Sequence[Group], attacks: Sequence[str]) -> list[Table]:
    """List the settings of every attack, once each, less the seed."""
    rows: dict[tuple[str, str], None] = {}
    for evaluation in (e for group in groups for record in group.records for e in record.evaluations):
        settings = {name: value for name, value in evaluation.settings.items() if name != "seed"}
        if settings:
            rows[evaluation.attack, json.dumps(settings, ensure_ascii=False)] = None
    ordered = sorted(rows, key=lambda row: attacks.index(row[0]))
    return [plain_table("Settings of the attacks", ["attack", "settings"], ordered)] if rows else []


def particle_counts(records: Sequence[Record], colours: dict[str, int]) -> Section | None:
    """Return natural and robust accuracy against the number of particles."""
    blocks = over_data(records, partial(_particles_block, colours=colours))
    return section("particles", "Accuracy against the number of particles", blocks)


def _particles_block(records: list[Record], heading: str, colours: dict[str, int]) -> Block | None:
    groups = [group for group in group_runs(untold(records)) if any(record.evaluations for record in group.records)]
    lines = particle_lines(groups)
    if not several_counts(lines):
        return None
    attacks = attack_names([group for line in lines.values() for group in line])
    styles = line_styles(lines, colours)
    panels, tables = [], []
    for attack in attacks:
        points: dict[str, dict[int, Accuracy]] = {}
        for name, line in lines.items():
            for group in line:
                value = group.accuracy(attack)
                if value is not None:
                    points.setdefault(name, {})[group.num_particles or 0] = value
        drawn = [figures.line(name, styles[name], values) for name, values in points.items()]
        labels = ("number of particles", f"accuracy ({attack})")
        drawing = figures.draw_counts(drawn, name=f"particles-{heading}-{attack}", labels=labels)
        panels.append(Panel(title=f"accuracy ({attack})", drawing=drawing))
        texts = {name: {n: accuracy_text(value) for n, value in values.items()} for name, values in points.items()}
        tables.append(count_table(f"Accuracy ({attack}) by number of particles", texts))
    return Block(
        heading=heading,
        sentence=_particles_sentence(lines, hardest(groups, attacks)),
        legend=[(figures.swatch(styles[name], marked=True), name) for name in lines],
        panels=panels,
        note="Points: mean over seeds. Bars: one sample standard deviation; for a single run, its 95 % interval.",
        tables=tables,
    )


def _particles_sentence(lines: dict[str, list[Group]], attack: str) -> str:
    parts = []
    for name, line in lines.items():
        ends = [(group.num_particles, value) for group in line if (value := group.accuracy(attack)) is not None]
        if len(ends) > 1:
            (few, start), (many, end) = ends[0], ends[-1]
            moves = "gains" if end.mean >= start.mean else "loses"
            parts.append(f"{name} {moves} {share(abs(end.mean - start.mean))} from {few} to {many} particles")
    where = "Without an attack" if attack == NATURAL else f"Under {attack}"
    return f"{where}, " + "; ".join(parts) + "." if parts else ""
