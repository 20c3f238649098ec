"""Training curves: what was minimised and what came out, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from aureole.core.records import Record
from aureole.report import figures
from aureole.report.aggregate import Group, Statistic, group_runs
from aureole.report.layout import DASH, Block, Panel, Section, Style, Table, listing, number, plain_table, spread_text
from aureole.report.refined_rows import lines_of, refinements
from aureole.report.sections import group_styles, headed, over_data, section

_MOST_EPOCHS = 12
_SEVERAL = "Lines: mean over seeds. Shading: one sample standard deviation."


def curves(records: Sequence[Record], colours: dict[str, int]) -> Section | None:
    """Return the training curves, one panel for each entry of the histories."""
    others = [record for record in records if not record.refinement]
    blocks = over_data(others, partial(_curves_block, colours=colours))
    for part, data in headed(refinements(records)):
        for victim, lines in lines_of(part).items():
            head = f"{data}, {victim}" if data else victim
            blocks += [_curves_block(list(line.records), f"{head}: {line.name}", {}) for line in lines]
    return section("curves", "Training curves", blocks)


def _curves_block(records: list[Record], heading: str, colours: dict[str, int]) -> Block | None:
    """Draw the runs of one data set; without colours of methods, each group has its own."""
    groups = [group for group in group_runs(records) if any(record.history for record in group.records)]
    rows = [row for group in groups for record in group.records for row in record.history]
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "epoch" and _telling(key, rows)]
    if not keys:
        return None
    places = {group.name: Style(colour=place) for place, group in enumerate(groups)}
    styles = group_styles(groups, colours) if colours else places
    styles = {name: replace(s, dash=s.dash + s.colour // figures.NUM_COLOURS) for name, s in styles.items()}
    panels, tables = [], []
    for key in sorted(keys, key=lambda key: (not key.startswith("validation"), not key.startswith("train"))):
        drawn = {group.name: curve for group in groups if (curve := group.curve(key))}
        lines = [figures.line(name, styles[name], curve) for name, curve in drawn.items()]
        drawing = figures.draw_curves(lines, name=f"curves-{heading}-{key}", labels=("epoch", key))
        panels.append(Panel(title=key, drawing=drawing))
        tables.append(_curve_table(key, drawn))
    return Block(
        heading=heading,
        sentence=_curve_sentence(groups, keys),
        legend=[(figures.swatch(styles[group.name], marked=False), group.name) for group in groups],
        panels=panels,
        note=_SEVERAL if any(len(group.records) > 1 for group in groups) else "Each line is one run.",
        tables=tables,
    )


def _curve_table(key: str, drawn: dict[str, dict[int, Statistic]]) -> Table:
    epochs = sorted({epoch for curve in drawn.values() for epoch in curve})
    step = math.ceil(len(epochs) / _MOST_EPOCHS)
    kept = sorted({*epochs[::step], epochs[-1]})
    note = "" if step == 1 else f" (one epoch in {step} and the last; all are in the records)"
    rows = [
        [str(epoch), *(spread_text(curve[epoch]) if epoch in curve else DASH for curve in drawn.values())]
        for epoch in kept
    ]
    head = ["epoch", *drawn]
    return plain_table(f"{key} by epoch{note}", head, rows)


def _telling(key: str, rows: Sequence[dict[str, float]]) -> bool:
    """Return whether an entry of the history says more than the loss: a term that is all of it does not."""
    term = key.startswith("train/") and key != "train/loss"
    return not term or any(repr(row[key]) != repr(row.get("train/loss")) for row in rows if key in row)  # NaN is NaN


def _curve_sentence(groups: Sequence[Group], keys: list[str]) -> str:
    """Say which group ends best in what was validated: highest, or lowest where an attack is what is learned."""
    judged = [key for key in keys if key.startswith("validation") and "loss" not in key]
    if not judged:
        return "A loss that still falls at the last epoch asks for longer training; one that rises asks for care."
    attacks = all(record.kind == "refinement" for group in groups for record in group.records)
    sign, best = (-1, "lowest") if attacks else (1, "highest")
    ends = []
    for key in judged:
        last = {group.name: list(curve.values())[-1].mean for group in groups if (curve := group.curve(key))}
        name = max(last, key=lambda name: sign * last[name] if math.isfinite(last[name]) else -math.inf)
        ends.append(f"{key} is {number(last[name], 3)} ({name})")
    return f"At the last epoch, the {best} {listing(ends)}."
