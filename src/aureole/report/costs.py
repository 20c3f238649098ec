"""The sections on what the particles do and cost: diversity (thesis, Figure 5.2) and time (Figures 5.6 and 5.7)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aureole.core.records import DiversityRow, Record
from aureole.report import figures
from aureole.report.aggregate import (
    Group,
    Statistic,
    data_name,
    data_of,
    diversity_lines,
    group_runs,
    particle_lines,
    split,
    statistic,
)
from aureole.report.layout import (
    DASH,
    Block,
    Cell,
    Panel,
    Section,
    Style,
    Table,
    listing,
    number,
    plain_table,
    spread_text,
)
from aureole.report.sections import count_table, line_styles, over_data, section, several_counts

_DRAWN = {
    "squared_distance": "mean squared distance of two particles",
    "cosine": "mean cosine of two perturbations",
    "distinct_wrong_labels": "distinct wrong labels per image",
    "objective": "mean objective",
}
_LISTED = {"adversarial_accuracy": "adversarial accuracy", "kernel": "mean kernel value", "seconds": "seconds"}


def diversity(records: Sequence[Record]) -> Section | None:
    """Return how far apart and how strong the particles of each sampler are."""
    return section("diversity", "Diversity of the particles", over_data(records, _diversity_block))


def _diversity_block(records: list[Record], heading: str) -> Block | None:
    lines = diversity_lines(records)
    if not lines:
        return None
    styles = {name: Style(colour=place, marker=place) for place, name in enumerate(lines)}
    panels = []
    for quantity, title in _DRAWN.items():
        drawn = [figures.line(name, styles[name], _means(line, quantity)) for name, line in lines.items()]
        labels = ("number of particles", title)
        drawing = figures.draw_counts(drawn, name=f"diversity-{heading}-{quantity}", labels=labels)
        panels.append(Panel(title=title, drawing=drawing))
    return Block(
        heading=heading,
        sentence=_diversity_sentence(lines),
        legend=[(figures.swatch(styles[name], marked=True), name) for name in lines],
        panels=panels,
        note="Points: mean over seeds. Bars: one sample standard deviation.",
        tables=[_diversity_table(lines)],
    )


def _over_seeds(rows: Sequence[DiversityRow], quantity: str) -> Statistic | None:
    values = [getattr(row, quantity) for row in rows]
    return None if any(value is None for value in values) else statistic(values)


def _means(line: dict[int, list[DiversityRow]], quantity: str) -> dict[int, Statistic]:
    return {count: statistic(getattr(row, quantity) for row in rows) for count, rows in line.items()}


def _diversity_table(lines: dict[str, dict[int, list[DiversityRow]]]) -> Table:
    quantities = {**_DRAWN, **_LISTED}
    rows = []
    for sampler, line in lines.items():
        for count, found in line.items():
            values = [_over_seeds(found, quantity) for quantity in quantities]
            texts = [DASH if value is None else spread_text(value) for value in values]
            rows.append([sampler, str(count), str(len({row.seed for row in found})), *texts])
    head = ["sampler", "particles", "seeds", *quantities.values()]
    caption = "Diversity and strength of the particles, mean ± sample standard deviation over seeds"
    return plain_table(caption, head, rows)


def _diversity_sentence(lines: dict[str, dict[int, list[DiversityRow]]]) -> str:
    most = max(count for line in lines.values() for count in line)
    found = []
    for name, line in lines.items():
        if most in line:
            distance = statistic(row.squared_distance for row in line[most]).mean
            found.append((distance, statistic(row.objective for row in line[most]).mean, name))
    found = [entry for entry in found if math.isfinite(entry[0])]
    if most < 2 or not found:
        return "One particle has no other to differ from."
    found.sort(key=lambda entry: -entry[0])
    distance, objective, name = found[0]
    text = f"With {most} particles, the largest mean squared distance is {number(distance, 3)} ({name})"
    if len(found) == 1:
        return f"{text}, at a mean objective of {number(objective, 3)}."
    least, strength, other = found[-1]
    return (
        f"{text}, the smallest {number(least, 3)} ({other}); their mean objectives are {number(objective, 3)} and "
        f"{number(strength, 3)}. Distance is worth having only where the objective holds."
    )


def times(records: Sequence[Record], colours: dict[str, int]) -> Section | None:
    """Return the time per epoch, by label and against the number of particles, one block a data set and device."""
    parts = [part for part in split(records, by_device=True) if any(record.seconds_per_epoch for record in part)]
    heads = [f"{data_name(data_of(part))}, {part[0].device}" for part in parts]
    blocks = [_time_block(part, head, colours) for part, head in zip(parts, heads, strict=True)]
    return section("time", "Time per epoch", blocks)


def _time_block(records: list[Record], heading: str, colours: dict[str, int]) -> Block:
    groups = [group for group in group_runs(records) if group.seconds_per_epoch() is not None]
    seconds = {group.name: value for group in groups if (value := group.seconds_per_epoch()) is not None}
    shortest, longest = min(v.mean for v in seconds.values()), max(v.mean for v in seconds.values())
    rows = []
    for group in groups:
        value, style = seconds[group.name], Style(colour=colours[group.method])
        bar = value.mean / longest if math.isfinite(value.mean) and longest > 0 else None
        ratio = f"{number(value.mean / shortest, 3)} \N{MULTIPLICATION SIGN}" if shortest > 0 else DASH
        rows.append([Cell(text=group.name), Cell(text=spread_text(value), bar=bar, style=style), Cell(text=ratio)])
    table = Table(
        caption="Seconds per epoch: the median epoch of each run, mean ± sample standard deviation over seeds",
        head=[Cell(text="run"), Cell(text="seconds per epoch"), Cell(text="against the shortest")],
        rows=rows,
    )
    lines = particle_lines(groups)
    if not several_counts(lines):
        return Block(heading=heading, sentence=_time_sentence(seconds), tables=[table])
    styles = line_styles(lines, colours)
    drawn = [figures.line(name, styles[name], _line_seconds(line, seconds)) for name, line in lines.items()]
    labels = ("number of particles", "seconds per epoch")
    drawing = figures.draw_counts(drawn, name=f"time-{heading}", labels=labels)
    texts = {
        name: {count: spread_text(value) for count, value in _line_seconds(line, seconds).items()}
        for name, line in lines.items()
    }
    return Block(
        heading=heading,
        sentence=_time_sentence(seconds) + _growth_sentence(lines, seconds),
        legend=[(figures.swatch(styles[name], marked=True), name) for name in lines],
        panels=[Panel(title="seconds per epoch against the number of particles", drawing=drawing)],
        note="Points: mean over seeds. Bars: one sample standard deviation.",
        tables=[table, count_table("Seconds per epoch by number of particles", texts)],
    )


def _line_seconds(line: list[Group], seconds: dict[str, Statistic]) -> dict[int, Statistic]:
    return {group.num_particles or 0: seconds[group.name] for group in line}


def _time_sentence(seconds: dict[str, Statistic]) -> str:
    ranked = sorted(seconds, key=lambda name: seconds[name].mean)
    first, last = ranked[0], ranked[-1]
    if first == last:
        return f"An epoch of {first} takes {number(seconds[first].mean, 3)} s."
    ratio = seconds[last].mean / seconds[first].mean if seconds[first].mean > 0 else math.inf
    return (
        f"An epoch takes from {number(seconds[first].mean, 3)} s ({first}) to "
        f"{number(seconds[last].mean, 3)} s ({last}), {number(ratio, 3)} times as long."
    )


def _growth_sentence(lines: dict[str, list[Group]], seconds: dict[str, Statistic]) -> str:
    parts = []
    for name, line in lines.items():
        few, many = line[0].num_particles, line[-1].num_particles
        start, end = seconds[line[0].name].mean, seconds[line[-1].name].mean
        if few != many and start > 0:
            parts.append(f"{name} {number(end / start, 3)} times from {few} to {many}")
    return f" With more particles it grows: {listing(parts)}." if parts else ""
