"""What makes a result hard to believe, in few lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from aureole.core.records import Evaluation

_COUNT = re.compile(r"(\d+) of (\d+)")
_GAP = "\0"


def merged(messages: Iterable[str]) -> list[str]:
    """Return each kind of message once: where they differ in counts "3 of 250" alone, these are summed.

    Example:
        >>> merged(["zero for 3 of 250 images", "random", "zero for 4 of 110 images", "random"])
        ['zero for 7 of 360 images', 'random']
    """
    counts: dict[str, list[list[int]]] = {}
    for message in messages:
        numbers = [int(number) for pair in _COUNT.findall(message) for number in pair]
        counts.setdefault(_COUNT.sub(_GAP, message), []).append(numbers)
    found = []
    for text, rows in counts.items():
        line, sums = text, [sum(column) for column in zip(*rows, strict=True)]
        for part, whole in zip(sums[::2], sums[1::2], strict=True):
            line = line.replace(_GAP, f"{part} of {whole}", 1)
        found.append(line)
    return found


def rising(evaluations: Sequence[Evaluation]) -> list[str]:
    """Say where more images stand at a larger radius: the attack is too weak there.

    Args:
        evaluations: the rows of one model.

    Returns:
        One line a series of which this is so, after its name.
    """
    series: dict[str, list[Evaluation]] = {}
    for row in evaluations:
        if row.series and row.radius is not None:
            series.setdefault(row.series, []).append(row)
    found = []
    for name, rows in series.items():
        same = [row for row in rows if row.num_examples == max(r.num_examples for r in rows)]
        ordered = sorted(same, key=lambda row: row.radius or 0.0)
        for near, far in pairwise(ordered):
            if far.num_correct > near.num_correct:
                found.append(
                    f"{name}: the accuracy rises from {near.accuracy:.3f} at the radius {near.radius:g} to"
                    f" {far.accuracy:.3f} at {far.radius:g}, which no attack of full strength allows: give it more"
                    " steps or restarts"
                )
                break
    return found
