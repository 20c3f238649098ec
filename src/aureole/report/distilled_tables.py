"""Tables of distillations: what each method is worth, and how large and how fast student and teacher are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aureole.core.records import NetworkRow, Record
from aureole.report.accuracies import accuracy_parts
from aureole.report.aggregate import NATURAL, Statistic, statistic
from aureole.report.distilled_rows import MEASURES, Lesson, Taught, network
from aureole.report.gains import Gain, gain_text, wins_text
from aureole.report.layout import DASH, Cell, Table, amount, number, points, share

_TIMES = "\N{MULTIPLICATION SIGN}"
_CAPTION = (
    "Natural accuracy of the student: mean ± sample standard deviation over seeds; for a single run, its 95 % Wilson"
    " interval. Gains: points of accuracy, paired by seed, and in how many seeds they are above 0; by TALD or BSS: over"
    " the same method without it. A number after TALD: particles an image. MagSim and AngSim: how alike student's"
    " and teacher's decision boundaries are, 1 for the same. Cost: the mean epoch, in epochs of the student alone,"
    " paired by seed and device. The highest mean is marked; a difference within the spread is no ranking"
)
_SIZES = (
    "Teacher beside student: parameters, stored weights (10^6 bytes), median milliseconds of one image in a batch of"
    " one (mean over runs), natural accuracy"
)


def methods_table(lesson: Lesson) -> Table:
    """Return accuracy, gains, boundaries and cost of every method, a row a method."""
    head = [Cell(text=text) for text in ("method", "seeds", "accuracy")]
    head.append(Cell(text="gain", details=("over student alone",)))
    extended = any(lesson.without(taught) for taught in lesson.taught)
    head += [Cell(text="gain", details=("by TALD or BSS",))] if extended else []
    shown = [measure for measure in MEASURES if any(taught.boundary(measure) for taught in lesson.taught)]
    head += [Cell(text=MEASURES[measure]) for measure in shown]
    timed = lesson.alone is not None and any(taught.cost(lesson.alone) for taught in lesson.taught)
    head += [Cell(text="cost", details=("of an epoch",))] if timed else []
    best = max(taught.accuracy.mean for taught in lesson.taught) if len(lesson.taught) > 1 else None
    rows = []
    for taught in lesson.taught:
        row = [Cell(text=taught.name), Cell(text=str(len(set(taught.group.seeds)))), _accuracy_cell(taught, best)]
        row.append(_gain_cell(taught, lesson.alone))
        row += [_gain_cell(taught, lesson.without(taught))] if extended else []
        row += [Cell(text=_similarity(taught.boundary(measure))) for measure in shown]
        row += [_cost_cell(taught, lesson.alone)] if timed else []
        rows.append(row)
    return Table(caption=_CAPTION, head=head, rows=rows)


def _accuracy_cell(taught: Taught, best: float | None) -> Cell:
    (text, *details), paper = accuracy_parts(taught.accuracy), taught.group.paper(NATURAL)
    details += [] if paper is None else [f"paper {share(paper)}"]
    return Cell(text=text, details=tuple(details), best=taught.accuracy.mean == best)


def _gain_cell(taught: Taught, other: Taught | None) -> Cell:
    gain: Gain | None = None if other is None or other is taught else taught.gain(other)
    return Cell(text=DASH) if gain is None else Cell(text=gain_text(gain), details=(wins_text(gain, "").lstrip(),))


def _similarity(value: Statistic | None) -> str:
    if value is None:
        return DASH
    return share(value.mean) if value.spread is None else f"{share(value.mean)} ± {share(value.spread)}"


def _cost_cell(taught: Taught, alone: Taught | None) -> Cell:
    ratio = None if alone is None else taught.cost(alone)
    if ratio is None:
        return Cell(text=DASH)
    spread = "" if ratio.spread is None or taught is alone else f" ± {ratio.spread:.2f}"
    return Cell(text=f"{ratio.mean:.2f}{spread} {_TIMES}")


def sizes_table(lesson: Lesson) -> Table:
    """Return size, time and accuracy of teacher and student, and the ratios of the two."""
    records = lesson.records
    teacher, student = (network(records[0], role) for role in ("teacher", "student"))
    best = max(taught.accuracy.mean for taught in lesson.taught)
    mean = statistic(network(record, "teacher").accuracy for record in records).mean
    ratios = [teacher.num_parameters / student.num_parameters, teacher.megabytes / student.megabytes]
    rows = [
        [*_size(teacher, records), _over(records)],
        [*_size(student, records), _range(lesson)],
        [
            "teacher / student",
            *(f"{number(ratio, 3)} {_TIMES}" for ratio in ratios),
            _on_devices(records, _ratio, f"{{}} {_TIMES}"),
            f"{points(100 * (mean - best))} points",
        ],
    ]
    cells = [[Cell(text=text) for text in row] for row in rows]
    head = [Cell(text=text) for text in ("network", "parameters", "MB", "ms an image", "accuracy")]
    return Table(caption=_SIZES, head=head, rows=cells)


def _size(row: NetworkRow, records: Sequence[Record]) -> list[str]:
    taken = _on_devices(records, lambda record: network(record, row.role).milliseconds, "{}")
    return [f"{row.role}: {row.name}", amount(row.num_parameters), f"{row.megabytes:.2f}", taken]


def _ratio(record: Record) -> float:
    return network(record, "teacher").milliseconds / network(record, "student").milliseconds


def _on_devices(records: Sequence[Record], value: Callable[[Record], float], text: str) -> str:
    """Return the mean over the runs of each device, with the devices' names where there are several."""
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record.device, []).append(value(record))
    means = {device: text.format(number(statistic(values).mean, 3)) for device, values in found.items()}
    return "; ".join(f"{mean} ({device})" if len(means) > 1 else mean for device, mean in means.items())


def _over(records: Sequence[Record]) -> str:
    """Return the accuracy over the different teachers."""
    rows = [network(record, "teacher") for record in records]
    found = {(row.num_correct, row.num_examples): row.accuracy for row in rows}
    value = statistic(found.values())
    return share(value.mean) if value.spread is None else f"{share(value.mean)} ± {share(value.spread)}"


def _range(lesson: Lesson) -> str:
    """Return the accuracy of the student alone, and that of the best method."""
    best = max(lesson.taught, key=lambda taught: taught.accuracy.mean)
    alone = lesson.alone
    texts = [] if alone is None else [f"{share(alone.accuracy.mean)} alone"]
    return ", ".join(texts if best is alone else [*texts, f"{share(best.accuracy.mean)} with {best.name}"])
