"""What the sections share: one block a data set, one colour a method, and the tables behind the drawings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aureole.core.records import Record
from aureole.report.aggregate import Group, data_of, split
from aureole.report.few_rows import place_of
from aureole.report.layout import DASH, Block, Section, Style, Table, amount, plain_table


def colours_of(records: Sequence[Record]) -> dict[str, int]:
    """Return method -> its place in the list of colours, the same for the whole page."""
    first = sorted(records, key=lambda record: (record.kind != "training", place_of(record)))
    return {method: place for place, method in enumerate(dict.fromkeys(record.method for record in first))}


def section(anchor: str, title: str, blocks: Sequence[Block | None]) -> Section | None:
    """Return a section of the blocks that exist, or None where none does."""
    present = [block for block in blocks if block is not None]
    return Section(anchor=anchor, title=title, blocks=present) if present else None


def over_data(records: Sequence[Record], build: Callable[[list[Record], str], Block | None]) -> list[Block | None]:
    """Build one block a data set.

    Args:
        records: all records.
        build: makes a block from the records of one data set and its heading, which is empty where there is one only.

    Returns:
        The blocks, None where a data set has nothing to show.
    """
    return [build(part, heading) for part, heading in headed(records)]


def headed(records: Sequence[Record]) -> list[tuple[list[Record], str]]:
    """Return the records of each data set with its heading, which is empty where there is one only."""
    parts = split(records)
    names = [data_of(part).name for part in parts]
    heads = [
        name if names.count(name) == 1 else f"{name} ({_apart(part, parts)})"
        for name, part in zip(names, parts, strict=True)
    ]
    return [(part, head if len(parts) > 1 else "") for part, head in zip(parts, heads, strict=True)]


def _apart(part: Sequence[Record], parts: Sequence[Sequence[Record]]) -> str:
    """Return the fingerprint of data, and its size where the fingerprint alone does not tell it from others.

    Where few images have a label, their number comes first: the fingerprint is that of one choice of them.
    """
    data, others = data_of(part), [data_of(other) for other in parts]
    if data.labelled_index:
        counts = [len(other.labelled_index) for other in others if other.name == data.name]
        text = f"{amount(len(data.labelled_index))} labels"
        if counts.count(len(data.labelled_index)) == 1:
            return text
        return f"{text}, {amount(data.num_validation)} validation and {amount(data.num_test)} test images"
    if data.labelled_patients and len({len(other.labelled_patients) for other in others}) == len(others):
        return f"{len(data.labelled_patients)} labelled patients"
    text = data.fingerprint[:12]
    if [other.fingerprint for other in others].count(data.fingerprint) == 1:
        return text
    return f"{text}, {amount(data.num_train)} training and {amount(data.num_test)} test images"


def group_styles(groups: Sequence[Group], colours: dict[str, int]) -> dict[str, Style]:
    """Give a method its colour and marker, and each of its groups a dash pattern."""
    seen: dict[str, int] = {}
    styles = {}
    for group in groups:
        dash = seen.get(group.method, 0)
        seen[group.method] = dash + 1
        styles[group.name] = Style(colour=colours[group.method], marker=colours[group.method], dash=dash)
    return styles


def line_styles(lines: dict[str, list[Group]], colours: dict[str, int]) -> dict[str, Style]:
    """Give every line over the number of particles its method's colour; lines of one method differ in the dashes."""
    firsts = [Group(name=name, records=line[0].records) for name, line in lines.items()]
    return group_styles(firsts, colours)


def several_counts(lines: dict[str, list[Group]]) -> bool:
    """Return whether a line has at least two numbers of particles, so that there is something to draw."""
    return any(len({group.num_particles for group in line}) > 1 for line in lines.values())


def count_table(caption: str, texts: dict[str, dict[int, str]]) -> Table:
    """Return the numbers behind a drawing over the number of particles.

    Args:
        caption: what they are.
        texts: name of a line -> number of particles -> the number in words.

    Returns:
        A folded table with one column for each number of particles.
    """
    counts = sorted({count for line in texts.values() for count in line})
    rows = [[name, *(line.get(count, DASH) for count in counts)] for name, line in texts.items()]
    return plain_table(caption, ["particles", *map(str, counts)], rows)
