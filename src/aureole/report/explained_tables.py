"""Tables of explanations: how well students repeat their teacher, and what their maps are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aureole.report.accuracies import accuracy_parts
from aureole.report.aggregate import Accuracy, Statistic
from aureole.report.explained_rows import AT_SIZE, POST_HOC, Comparison, Figure, Maps, Students, Worth, percent
from aureole.report.layout import DASH, Cell, Table, plain_table, share
from aureole.report.refined_tables import quantity

_SPREAD = "mean ± sample standard deviation over seeds"
_MARKED = "The best mean of each share of the images is marked; a difference within the spread is no ranking"
_FIGURES: dict[Figure, str] = {"precision": "precision", "recall": "recall", "f1": "F1"}


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A figure of the maps: its heading, a factor (0 for a time), and whether more (1) or less (-1) is better."""

    what: Worth
    name: str
    details: tuple[str, ...] = ()
    times: float = 1.0
    sign: int = 1


_COLUMNS = (
    _Column(what=AT_SIZE, name="IoU", details=("K = mask size",)),
    _Column(what=AT_SIZE, name="thesis's IoU", details=("twice the IoU",), times=2.0),
    _Column(what="pointing", name="pointing", details=("game",)),
    _Column(what="insertion", name="insertion"),
    _Column(what="deletion", name="deletion", sign=-1),
    _Column(what="milliseconds", name="ms", details=("a map",), times=0.0, sign=-1),
)


def agreement_table(comparison: Comparison) -> Table:
    """Return how well students repeat their teacher, a row a method and share of the images (thesis 4.4 and 4.7)."""
    caption = (
        "Post-hoc figures: how often the student, which sees the simplified image, gives the class that the teacher"
        f" gives to the image itself; {_SPREAD}, for the accuracy of a single run its 95 % interval. Images: share of"
        " the training images that the student saw. Natural accuracy: by the true classes"
    )
    published = any(students.group.paper(POST_HOC) is not None for students in comparison.students)
    caption += ". Below the accuracy: what the paper reports" if published else ""
    head = ["method", "images", "seeds", "accuracy", *_FIGURES.values()]
    rows = []
    for students in comparison.students:
        agreement, others = students.agreement, comparison.of(students.share)
        row = [*_first(students.method, students), _accuracy_cell(students, agreement, _best(others, _accuracy))]
        for figure in _FIGURES:
            best = _best(others, lambda other, figure=figure: other.figure(figure))
            row.append(_cell(students.figure(figure), best))
        rows.append([*row, _natural(students)])
    cells = [Cell(text=text) for text in head] + [Cell(text="natural", details=("accuracy",))]
    return Table(caption=f"{caption}. {_MARKED}", head=cells, rows=rows)


def maps_table(comparison: Comparison) -> Table | None:
    """Return what the maps are worth, a row a map and share of the images (thesis 4.5 and 4.6); None without maps."""
    maps = [found for share_of in comparison.shares for found in comparison.maps(share_of)]
    columns = [column for column in _COLUMNS if any(found.worth(column.what) for found in maps)]
    if not maps:
        return None
    head = [Cell(text=text) for text in ("map", "images", "seeds")]
    head += [Cell(text=column.name, details=column.details) for column in columns]
    rows = []
    for found in maps:
        others = [other for other in maps if other.students.share == found.students.share]
        row = _first(found.name, found.students)
        for column in columns:
            best = _best(others, lambda other, column=column: other.worth(column.what), column.sign)
            row.append(_scaled(found.worth(column.what), best, column.times))
        rows.append(row)
    return Table(caption=_maps_caption(comparison, maps), head=head, rows=rows)


def overlap_tables(comparison: Comparison) -> list[Table]:
    """Return the numbers behind the bars: IoU at each K, one folded table a share of the images."""
    tables = []
    for at in comparison.shares:
        maps = [found for found in comparison.maps(at) if found.overlaps]
        counts = sorted({count for found in maps for count in found.overlaps})
        rows = [[f.name, *(mean_text(f.overlaps.get(count)) for count in counts)] for f in maps]
        if rows:
            caption = (
                f"IoU with {comparison.marked} of the K highest scores, {percent(at)} of the images; {_SPREAD}."
                " The thesis's IoU is twice this one"
            )
            tables.append(plain_table(caption, ["K, pixels", *map(str, counts)], rows))
    return tables


def mean_text(value: Statistic | None) -> str:
    """Return mean and spread with three decimals.

    Example:
        >>> mean_text(Statistic(mean=0.25, spread=0.1, count=2)), mean_text(None)
        ('0.250 ± 0.100', '—')
    """
    if value is None:
        return DASH
    return share(value.mean) if value.spread is None else f"{share(value.mean)} ± {share(value.spread)}"


def _maps_caption(comparison: Comparison, maps: Sequence[Maps]) -> str:
    masks = max(found.num_masks for found in maps)
    parts = []
    if masks:
        parts.append(
            f"IoU: intersection over union of an image's highest scores and its {comparison.marked}, as many pixels as"
            f" are marked, mean over {masks:,} test images; the thesis's formula has a factor of 2. Pointing game:"
            " share of the images whose highest score is marked"
        )
    if any(found.worth("insertion") for found in maps):
        parts.append(
            "Insertion and deletion: mean area under the teacher's probability of its class while the pixels come in,"
            " which should be large, or go, which should be small, highest score first"
        )
    return f"{'. '.join(parts)}{'. ' if parts else ''}Figures: {_SPREAD}. {_MARKED}"


def _first(name: str, students: Students) -> list[Cell]:
    texts = (name, percent(students.share), str(len(set(students.group.seeds))))
    return [Cell(text=text) for text in texts]


def _best(others: Sequence[object], value: Callable[..., Statistic | None], sign: int = 1) -> float | None:
    """Return the best mean; None where there is nothing to compare."""
    means = [found.mean for other in others if (found := value(other)) is not None]
    return None if len(means) < 2 else sign * max(sign * mean for mean in means)


def _accuracy(students: Students) -> Statistic | None:
    return students.agreement


def _accuracy_cell(students: Students, value: Accuracy | None, best: float | None) -> Cell:
    if value is None:
        return Cell(text=DASH)
    (text, *details), paper = accuracy_parts(value), students.group.paper(POST_HOC)
    details += [] if paper is None else [f"paper {share(paper)}"]
    return Cell(text=text, details=tuple(details), best=value.mean == best)


def _natural(students: Students) -> Cell:
    return Cell(text=mean_text(students.natural))


def _cell(value: Statistic | None, best: float | None) -> Cell:
    return Cell(text=mean_text(value), best=value is not None and value.mean == best)


def _scaled(value: Statistic | None, best: float | None, times: float) -> Cell:
    """Return a figure times a factor; a factor of 0 stands for a time, which has no fixed number of decimals."""
    if value is None or not times:
        return Cell(text=quantity(value), best=value is not None and value.mean == best)
    spread = None if value.spread is None else times * value.spread
    text = mean_text(Statistic(mean=times * value.mean, spread=spread, count=value.count))
    return Cell(text=text, best=value.mean == best)
