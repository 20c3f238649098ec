"""What the unlabelled images changed, class by class: the labels alone beside the best method by validation."""

from __future__ import annotations

import math

from aureole.core.records import Evaluation
from aureole.report.confusion import Shares, changes, draw_confusion, largest_mistake, per_cent, shares_of
from aureole.report.few_rows import Runs, Study
from aureole.report.layout import DASH, Block, Panel, Table, amount, listing, plain_table, share

_NOTE = (
    "Per cent of each true class, mean over seeds. Blue: right. Orange: mistaken, on one scale for both; an empty cell"
    " rounds to nothing."
)


def confusion_blocks(study: Study, heading: str) -> list[Block]:
    """Return what unlabelled images changed, class by class, one block a number of labels."""
    blocks = []
    for labels in study.labels:
        chosen = _chosen(study, labels)
        if chosen is not None:
            base, best = chosen
            before, after = _paired_shares(base, best)
            most = max(largest_mistake(before), largest_mistake(after))
            titles = {base.name: before, best.name: after}
            panels = [
                Panel(title=name, drawing=draw_confusion(shares, most=most, words=_words(name, shares)))
                for name, shares in titles.items()
            ]
            head = f"What the unlabelled images changed, {amount(labels)} labels"
            blocks.append(
                Block(
                    heading=f"{heading}: {head[0].lower()}{head[1:]}" if heading else head,
                    sentence=confusion_sentence(study, labels),
                    panels=panels,
                    note=_NOTE,
                    tables=[_confusion_table(name, labels, shares) for name, shares in titles.items()],
                )
            )
    return blocks


def confusion_sentence(study: Study, labels: int) -> str:
    """Say what the best method by validation changes; the empty text where no confusions were kept."""
    chosen = _chosen(study, labels)
    if chosen is None:
        return ""
    base, best = chosen
    validated = best.validated
    assert validated is not None
    num_pairs = len(_paired(base, best))
    seeds = f"{num_pairs} seed{'' if num_pairs == 1 else 's'}"
    text = f"With {amount(labels)} labels, {best.name} is best of the methods that use unlabelled images, by the"
    text += (
        f" validation accuracy after the last epoch ({share(validated.mean)}). Against the labels alone, over {seeds}"
    )
    return f"{text}, {changes(*_paired_shares(base, best))}."


def _chosen(study: Study, labels: int) -> tuple[Runs, Runs] | None:
    """Return the runs on the labels alone and the best others by validation: the test images choose nothing."""
    base = study.supervised(labels)
    if base is None:
        return None
    found = [
        (value.mean, runs)
        for runs in study.at(labels)
        if runs is not base and (value := runs.validated) is not None and _paired(base, runs)
    ]
    finite = [(value, runs) for value, runs in found if math.isfinite(value)]
    return (base, max(finite, key=lambda pair: pair[0])[1]) if finite else None


def _paired(base: Runs, other: Runs) -> list[tuple[Evaluation, Evaluation]]:
    """Return the evaluations of the same seeds and labelled images whose confusions have the same classes."""
    mine, theirs = base.evaluations, other.evaluations
    pairs = [(row, theirs[key]) for key, row in mine.items() if key in theirs]
    return [(one, two) for one, two in pairs if one.confusion and len(one.confusion) == len(two.confusion)]


def _paired_shares(base: Runs, other: Runs) -> tuple[Shares, Shares]:
    pairs = _paired(base, other)
    return shares_of(one for one, _ in pairs), shares_of(two for _, two in pairs)


def _words(name: str, shares: Shares) -> str:
    right = [f"{place}: {per_cent(row[place])} %" for place, row in enumerate(shares) if math.isfinite(row[place])]
    return f"Confusion of {name}. Right of each class: {listing(right)}."


def _confusion_table(name: str, labels: int, shares: Shares) -> Table:
    rows = [
        [str(place), *(per_cent(value) if math.isfinite(value) else DASH for value in row)]
        for place, row in enumerate(shares)
    ]
    caption = f"Confusion with {amount(labels)} labels, {name}: per cent of the true class (rows) in each class"
    return plain_table(caption, ["true class", *map(str, range(len(shares)))], rows)
