"""One self-contained page from a folder of runs: the same folder gives the same bytes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from aureole.core.errors import InputError
from aureole.core.records import DataRecord, Record, find_records, replace_text
from aureole.report.accuracies import accuracies, particle_counts
from aureole.report.costs import diversity, times
from aureole.report.curves import curves
from aureole.report.distillation import distillation
from aureole.report.explained_pictures import explanation_sheets
from aureole.report.explanation import explanation
from aureole.report.few_labels import few_labels
from aureole.report.figures import colour
from aureole.report.layout import amount, duration, listing
from aureole.report.pictures import galleries
from aureole.report.refined_pictures import sheets
from aureole.report.refinement import refinement
from aureole.report.robustness import robustness
from aureole.report.sections import colours_of
from aureole.report.segmentation import segmentation
from aureole.report.segmented_pictures import segmentation_sheets

REPORT_NAME = "report.html"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run as the last section shows it."""

    name: str
    command: str
    facts: str
    warnings: Sequence[str]


def report(folder: Path, *, title: str | None = None) -> Path:
    """Write ``folder/report.html`` from every run record below a folder.

    The page holds everything it shows: it loads nothing, needs no script, and depends on the records and the files
    beside them alone.

    Args:
        folder: the folder of one run or of many.
        title: the heading; by default the recipes and the data.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder is missing, holds no record, holds a file that is no record, or cannot be written.
    """
    folder = Path(folder)
    found = find_records(folder)
    if not found:
        raise InputError(f"no run records in {folder}: looked for record.json there and in every folder below")
    path = folder / REPORT_NAME
    replace_text(path, _render(folder, found, title))
    return path


def _render(folder: Path, found: Sequence[tuple[Path, Record]], title: str | None) -> str:
    import jinja2

    records = [record for _, record in found]
    colours = colours_of(records)
    before = [accuracies(records), robustness(records, colours), curves(records, colours)]
    before.insert(2, refinement(records))
    before[1:1] = [few_labels(records, colours), distillation(records, colours), explanation(records)]
    before.insert(1, segmentation(records, colours))
    before += [particle_counts(records, colours), diversity(records)]
    template = resources.files("aureole.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["colour"] = colour
    return environment.from_string(template).render(
        title=title or _default_title(records),
        summary=_summary(records),
        data=_data_lines(records),
        facts=_facts(records),
        proxies=_proxies(records),
        num_warned=sum(bool(record.warnings) for record in records),
        before=[part for part in before if part is not None],
        galleries=galleries(found),
        sheets=sheets(found),
        explained=explanation_sheets(found),
        segmented=segmentation_sheets(found),
        after=[part for part in [times(records, colours)] if part is not None],
        runs=[_run(path.relative_to(folder).as_posix(), record) for path, record in found],
    )


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _default_title(records: Sequence[Record]) -> str:
    recipes, names = _distinct(r.recipe for r in records), _distinct(r.data.name for r in records)
    what = listing(recipes) if len(recipes) <= 3 else f"{len(recipes)} recipes"
    return f"{what} on {listing(names)}"


def _summary(records: Sequence[Record]) -> str:
    trained = [record for record in records if record.kind == "training"]
    judged = [record for record in records if record.kind == "evaluation"]
    refined = [record for record in records if record.kind == "refinement"]
    others, seeds = sum(record.kind == "diversity" for record in records), len({record.seed for record in records})
    parts = []
    if trained:
        parts.append(f"{_counted(len(trained), 'training run')} of {listing(_distinct(r.method for r in trained))}")
    if judged:
        parts.append(f"{_counted(len(judged), 'evaluation')} of {listing(_distinct(r.label for r in judged))}")
    if refined:
        attacks = _distinct(row.attack for record in refined for row in record.refinement[:1])
        parts.append(f"{_counted(len(refined), 'refinement')} of {listing(attacks)}")
    if others:
        parts.append(_counted(others, "measurement") + " of diversity")
    return f"{listing(parts)}, over {_counted(seeds, 'seed')}."


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _data_lines(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Return name, sizes and fingerprint of the data; where few images have a label, with each choice of them."""

    def sizes(data: DataRecord) -> str:
        training = "labelled" if data.labelled_index else "training"
        parts = [(data.num_train, training), (data.num_validation, "validation"), (data.num_test, "test")]
        return ", ".join(f"{amount(size)} {part}" for size, part in parts if size or part == "test") + " images"

    found: dict[tuple[str, ...], list[str]] = {}
    for data in dict.fromkeys(record.data for record in records):
        own = (data.name, sizes(data)) if data.labelled_index else (data.name, sizes(data), data.fingerprint)
        found.setdefault(own, []).append(data.fingerprint)
    return [(name, text, ", ".join(dict.fromkeys(marks))) for (name, text, *_), marks in found.items()]


def _facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    facts = {
        "device": (record.device for record in records),
        "versions": (", ".join(f"{name} {version}" for name, version in r.versions.items()) for r in records),
        "commit": (_commit(record) for record in records if record.commit),
    }
    texts = [(name, "; ".join(_distinct(values))) for name, values in facts.items()]
    return [(name, text) for name, text in texts if text]


def _commit(record: Record) -> str:
    return (record.commit or "")[:12] + (" with uncommitted changes" if record.dirty else "")


def _proxies(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return each reason with the runs that it holds for."""
    reasons: dict[str, list[Record]] = {}
    for record in records:
        if record.proxy:
            reasons.setdefault(record.proxy_reason, []).append(record)
    return [(reason, listing(_who(found, records))) for reason, found in reasons.items()]


def _who(found: Sequence[Record], records: Sequence[Record]) -> list[str]:
    """Name some of the records: by their method where that is all of the method's, else by their label."""
    names = []
    for record in found:
        whole = sum(r.method == record.method for r in records) == sum(r.method == record.method for r in found)
        names.append(record.method if whole else record.label)
    return _distinct(names)


def _run(path: str, record: Record) -> Run:
    name = f"{record.label}, seed {record.seed}"
    facts = f"{record.started.replace('T', ' ')}, {duration(record.wall_seconds)} on {record.device}"
    facts += f", commit {_commit(record)}" if record.commit else ""
    return Run(name=name, command=f"aureole rerun {shlex.quote(path)}", facts=facts, warnings=record.warnings)
