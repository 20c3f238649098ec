"""Distillation (thesis, chapter 7): what each method adds to a student, how near its boundaries are, and its size."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from aureole.core.records import Record
from aureole.report import figures
from aureole.report.accuracies import accuracy_text
from aureole.report.aggregate import Group
from aureole.report.distilled_names import SUPPORTED
from aureole.report.distilled_rows import MEASURES, Lesson, Taught, lessons
from aureole.report.distilled_tables import methods_table, sizes_table
from aureole.report.distilled_words import findings, opening, remarks
from aureole.report.layout import Block, Panel, Section, Style, Table
from aureole.report.sections import count_table, group_styles, section

_NOTE = "Points: mean over seeds. Bars and shading: one sample standard deviation"
_INTERVAL = "; for the accuracy of a single run, its 95 % interval"


def distillation(records: Sequence[Record], colours: dict[str, int]) -> Section | None:
    """Return tables, curves and findings of students beside their teachers, one block a data set and pair."""
    return section("distillation", "Distillation", [_block(lesson, colours) for lesson in lessons(records)])


def _block(lesson: Lesson, colours: dict[str, int]) -> Block:
    panels, tables, legend = _over_particles(lesson, colours)
    interval = _INTERVAL if panels else ""
    panels += _boundaries(lesson, colours)
    return Block(
        heading=lesson.name,
        sentence=opening(lesson),
        findings=findings(lesson),
        legend=legend,
        panels=panels,
        note=f"{_NOTE}{interval}." if panels else "",
        tables=[methods_table(lesson), sizes_table(lesson), *tables],
        remarks=remarks(lesson),
    )


def _over_particles(
    lesson: Lesson, colours: dict[str, int]
) -> tuple[list[Panel], list[Table], list[tuple[Markup, str]]]:
    """Draw accuracy against the particles of TALD; beside them, as levels, what has none."""
    lines = {name: found for name, found in lesson.lines.items() if len(found) > 1}
    if not lines:
        return [], [], []
    bases = [lesson.plain(base) for base in dict.fromkeys(f[min(f)].named.base for f in lines.values())]
    levels = [found for found in (lesson.alone, lesson.plain(SUPPORTED), *bases) if found is not None]
    levels = list({found.name: found for found in levels}.values())
    styles = _styles({name: found[min(found)] for name, found in lines.items()}, colours)
    for place, level in enumerate(levels, 1):
        styles[level.name] = Style(colour=colours[level.group.method], dash=place)
    points = {name: {n: taught.accuracy for n, taught in sorted(found.items())} for name, found in lines.items()}
    title = "accuracy against the number of particles"
    drawing = figures.draw_counts(
        [figures.line(name, styles[name], values) for name, values in points.items()],
        name=f"distillation-{lesson.name}-{title}",
        labels=("number of TALD's particles", "accuracy"),
        levels=[figures.line(level.name, styles[level.name], {0: level.accuracy}) for level in levels],
    )
    texts = {name: {n: accuracy_text(value) for n, value in values.items()} for name, values in points.items()}
    legend = [(figures.swatch(style, marked=name in lines), name) for name, style in styles.items()]
    return [Panel(title=title, drawing=drawing)], [count_table("Accuracy by number of TALD's particles", texts)], legend


def _boundaries(lesson: Lesson, colours: dict[str, int]) -> list[Panel]:
    """Draw MagSim and AngSim, a row a method."""
    panels = []
    for measure, name in MEASURES.items():
        rows = []
        for taught in lesson.taught:
            value = taught.boundary(measure)
            if value is not None:
                style = Style(colour=colours[taught.group.method], marker=int(taught.num_particles is not None))
                rows.append(figures.line(taught.name, style, {0: value}))
        if len(rows) > 1:
            drawing = figures.draw_rows(rows, name=f"distillation-{lesson.name}-{measure}", label=name)
            panels.append(Panel(title=f"{name}: boundaries of student and teacher", drawing=drawing))
    return panels


def _styles(drawn: dict[str, Taught], colours: dict[str, int]) -> dict[str, Style]:
    """Give lines and levels the colours of their methods; those of one method differ in the dashes."""
    return group_styles([Group(name=name, records=taught.group.records) for name, taught in drawn.items()], colours)
