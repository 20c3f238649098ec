"""The results page: the records below a folder as one Markdown text, a section a sub-folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from aureole.core.errors import InputError
from aureole.core.records import DataRecord, DiversityRow, Record, find_records
from aureole.report.accuracies import accuracy_text
from aureole.report.aggregate import (
    Group,
    attack_names,
    comparison_notes,
    data_name,
    data_of,
    diversity_lines,
    group_runs,
    split,
    statistic,
)
from aureole.report.apart import untold
from aureole.report.distilled_rows import lessons
from aureole.report.distilled_tables import methods_table, sizes_table
from aureole.report.distilled_words import findings as findings_of_lesson
from aureole.report.distilled_words import opening
from aureole.report.distilled_words import remarks as remarks_on_lesson
from aureole.report.explained_rows import comparisons
from aureole.report.explained_words import findings as findings_of_comparison
from aureole.report.explained_words import opening as opening_of_comparison
from aureole.report.explained_words import remarks as remarks_on_comparison
from aureole.report.explanation import tables_of as tables_of_comparison
from aureole.report.few_changes import confusion_sentence
from aureole.report.few_labels import gain_table, notes_on
from aureole.report.few_rows import studies
from aureole.report.few_words import findings as findings_of_few
from aureole.report.layout import DASH, Cell, Table, amount, listing, number, share, spread_text
from aureole.report.refined_rows import lines_of
from aureole.report.refined_tables import remarks_of, tables_of
from aureole.report.refined_words import findings
from aureole.report.robustness import MEASURES, measured, rows_of
from aureole.report.segmentation import findings as findings_of_clinic
from aureole.report.segmentation import opening as opening_of_clinic
from aureole.report.segmentation import remarks as remarks_on_clinic
from aureole.report.segmentation import tables_of as tables_of_clinic
from aureole.report.segmented_rows import clinics

_README = "README.md"
_QUANTITIES = {
    "squared_distance": "mean pairwise squared error",
    "cosine": "cosine",
    "objective": "objective",
    "adversarial_accuracy": "worst-case adversarial accuracy",
    "kernel": "kernel",
}
_MARKUP = re.compile(r"[\\`*<|]|\b_|_\b")
_HEADING = re.compile(r"#{1,6} ")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def results_page(folder: Path) -> str:
    """Return the records below a folder as Markdown.

    The folder's own README.md, less its heading, stands first. Then comes one section a sub-folder, in alphabetical
    order: the text of its README.md, whose first heading names the section, and the tables of its records. Runs that
    lie in the folder itself come before the sub-folders. Links in a README should not be relative. The text depends on
    the records and these files alone.

    Args:
        folder: the folder of the sub-folders, such as ``results``.

    Returns:
        The text of the page; accuracies as mean ± sample standard deviation over seeds.

    Raises:
        InputError: the folder is missing, holds no record, or holds a file that is no record.
    """
    folder = Path(folder)
    found = find_records(folder)
    if not found:
        raise InputError(f"no run records in {folder}: looked for record.json there and in every folder below")
    parts: dict[str, list[Record]] = {"": []} | {path.name: [] for path in sorted(folder.iterdir()) if path.is_dir()}
    for path, record in found:
        place = path.relative_to(folder).parts
        parts[place[0] if len(place) > 1 else ""].append(record)
    _, about = _readme(folder)
    blocks = ["# Results", "Generated from run records by `aureole report`; do not edit.", about]
    for name, records in parts.items():
        blocks += _section(folder / name, name, records) if name else _tables(records)
    return "\n\n".join(block for block in blocks if block) + "\n"


def _section(folder: Path, name: str, records: Sequence[Record]) -> list[str]:
    """Return heading, text and tables of a sub-folder; nothing where it has neither records nor a README."""
    title, text = _readme(folder)
    if not records and not text:
        return []
    return [f"## {title or _escaped(name)}", text, *_tables(records)]


def _readme(folder: Path) -> tuple[str, str]:
    """Return the first heading of a folder's README and its other text, with headings one level lower."""
    path = folder / _README
    if not path.is_file():
        return "", ""
    title, lines, fence = "", [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        heading = not fence and not mark and bool(_HEADING.match(line))
        if heading and not title:
            title = line.lstrip("#").strip()
        else:
            lines.append("#" * heading + line.rstrip())
    return title, "\n".join(lines).strip()


def _tables(records: Sequence[Record]) -> list[str]:
    if not records:
        return []
    blocks, parts = [_provenance(records), *_proxies(records)], split(records)
    blocks += _few_labels(records) + _distillation(records) + _explanations(records) + _segmentations(records)
    for part in parts:
        left = untold(part)
        apart = not left and any(record.evaluations for record in part)
        shown = _accuracies(left) + _robustness(part) + _refinement(part) + _diversity(part) + _times(part)
        if len(parts) > 1 and (shown or not apart):
            blocks.append(_data_heading(data_of(part)))
        blocks += shown
    warned = dict.fromkeys(warning for record in records for warning in record.warnings)
    return [*blocks, _bullets(f"Warning: {warning}" for warning in warned)]


def _data_heading(data: DataRecord) -> str:
    if data.labelled_index:
        return f"### {_escaped(data_name(data))}"
    return f"### {_escaped(data.name)}, data {data.fingerprint[:8]}"


def _few_labels(records: Sequence[Record]) -> list[str]:
    """Return what runs with few labels show, and the table of methods and numbers of labels, one a data set."""
    blocks = []
    for study in studies(records):
        table = gain_table(study)
        changed = [confusion_sentence(study, labels) for labels in study.labels]
        blocks += [f"Few labels: {_escaped(study.name)}.", _bullets([*findings_of_few(study), *filter(None, changed)])]
        blocks += [*_captioned(table), _bullets(notes_on(study))]
    return blocks


def _distillation(records: Sequence[Record]) -> list[str]:
    """Return what distillations show, and the tables of methods and sizes, one a data set and pair of networks."""
    blocks = []
    for lesson in lessons(records):
        blocks.append(f"Distillation: {_escaped(lesson.name)}. {_escaped(opening(lesson))}")
        blocks += [_bullets(findings_of_lesson(lesson)), *_captioned(methods_table(lesson))]
        blocks += [*_captioned(sizes_table(lesson)), _bullets(remarks_on_lesson(lesson))]
    return blocks


def _explanations(records: Sequence[Record]) -> list[str]:
    """Return what explanations show, and their tables, one block a data set and teacher."""
    blocks = []
    for found in comparisons(records):
        name = f"Explanations: {found.name}." if found.name else "Explanations."
        blocks.append(f"{_escaped(name)} {_escaped(opening_of_comparison(found))}")
        blocks.append(_bullets([*findings_of_comparison(found), *remarks_on_comparison(found)]))
        for table in tables_of_comparison(found):
            blocks += _captioned(table)
    return blocks


def _segmentations(records: Sequence[Record]) -> list[str]:
    """Return what segmentations show, and their tables, one block a set of scans and labels."""
    blocks = []
    for clinic in clinics(records):
        name = f"Segmentation: {clinic.heading}." if clinic.heading else "Segmentation."
        blocks += [
            f"{_escaped(name)} {_escaped(opening_of_clinic(clinic))}",
            _bullets([*findings_of_clinic(clinic), *remarks_on_clinic(clinic)]),
        ]
        for table in tables_of_clinic(clinic):
            blocks += _captioned(table)
    return blocks


def _captioned(table: Table) -> list[str]:
    """Return the caption of a table, and the table."""
    rows = [[_cell_text(cell) for cell in row] for row in table.rows]
    return [f"{_escaped(table.caption)}.", _table([_cell_text(cell) for cell in table.head], rows)]


def _provenance(records: Sequence[Record]) -> str:
    """Return one sentence on what the records are and where they come from."""
    torch = sorted({record.versions["torch"] for record in records if "torch" in record.versions})
    commits = sorted({(r.commit[:8] + (" with changes" if r.dirty else "")) for r in records if r.commit})
    data = dict.fromkeys(f"{r.data.name}, {_images(r)}" for r in records)
    words = [f"{len(records)} record{'' if len(records) == 1 else 's'}", _escaped("; ".join(data))]
    words += [_escaped(device) for device in dict.fromkeys(record.device for record in records)]
    words += [f"torch {listing(torch)}"] if torch else []
    words += [f"commit {listing(commits)}"] if commits else []
    return "; ".join(words) + "."


def _images(record: Record) -> str:
    if record.kind == "evaluation":
        return f"{amount(record.data.num_test)} test images"
    return f"{amount(record.data.num_train)} {'labelled' if record.data.labelled_index else 'training'} images"


def _proxies(records: Sequence[Record]) -> list[str]:
    """Return each reason with the runs that it holds for."""
    reasons: dict[str, dict[str, None]] = {}
    for record in records:
        if record.proxy:
            reasons.setdefault(record.proxy_reason, {})[record.label] = None
    labels = {record.label for record in records}
    lines = []
    for reason, runs in reasons.items():
        whose = "" if set(runs) == labels else f" ({_escaped(listing(list(runs)))})"
        lines.append(f"Not at the paper's scale{whose}: {_escaped(reason)}.")
    return ["  \n".join(lines)] if lines else []


def _accuracies(records: Sequence[Record]) -> list[str]:
    """Return the table methods x attacks, and what speaks against a comparison."""
    groups = [group for group in group_runs(records) if any(record.evaluations for record in group.records)]
    if not groups:
        return []
    attacks = attack_names(groups)
    rows = [[group.name, str(len(set(group.seeds))), *(_accuracy(group, a) for a in attacks)] for group in groups]
    caption = "Accuracy: mean ± sample standard deviation over seeds; for a single run, its 95 % interval."
    return [caption, _table(["run", "seeds", *attacks], rows), _bullets(comparison_notes(groups))]


def _robustness(records: Sequence[Record]) -> list[str]:
    """Return the table of attacks with their radii and distances, where evaluations have them."""
    groups = [group for group in group_runs(records) if measured(group.records)]
    if not groups:
        return []
    rows = [[r.group, r.attack, r.radius, accuracy_text(r.accuracy), *r.texts] for r in rows_of(groups)]
    caption = "Robustness: L0 is the share of changed pixels; distances are means over the images that were fooled."
    return [caption, _table(["run", "attack", "radius", "accuracy", *MEASURES.values()], rows)]


def _refinement(records: Sequence[Record]) -> list[str]:
    """Return the findings and the tables of each victim's refinements."""
    blocks = []
    for victim, lines in lines_of(records).items():
        sentences = [sentence for line in lines for sentence in findings(line)]
        blocks += [f"Victim: {_escaped(victim)}.", _bullets([*sentences, *remarks_of(lines)])]
        for table in tables_of(lines, plain=True):
            blocks += _captioned(table)
    return blocks


def _cell_text(cell: Cell) -> str:
    first, *rest = [cell.text, *cell.details]
    return f"{first} {' '.join(rest)}" if rest and rest[0].startswith("[") else ", ".join([first, *rest])


def _accuracy(group: Group, attack: str) -> str:
    value, paper = group.accuracy(attack), group.paper(attack)
    text = DASH if value is None else accuracy_text(value)
    if value is not None and value.count < len(group.records):
        text += f" ({value.count} of {len(group.records)} runs)"
    return text if paper is None else f"{text} (paper {share(paper)})"


def _diversity(records: Sequence[Record]) -> list[str]:
    """Return a table samplers x numbers of particles for each study."""
    studies: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.diversity:
            studies.setdefault((record.label, record.proxy_reason), []).append(record)
    blocks = []
    for (label, _), found in studies.items():
        rows = [
            [sampler, str(count), str(len({row.seed for row in cell})), *(_mean(cell, name) for name in _QUANTITIES)]
            for sampler, line in diversity_lines(found).items()
            for count, cell in line.items()
        ]
        head = ["sampler", "particles", "seeds", *_QUANTITIES.values()]
        blocks += [f"Particles ({_escaped(label)}): mean over seeds.", _table(head, rows)]
    return blocks


def _mean(rows: Sequence[DiversityRow], quantity: str) -> str:
    values = [getattr(row, quantity) for row in rows]
    return DASH if None in values else number(statistic(values).mean, 3)


def _times(records: Sequence[Record]) -> list[str]:
    """Return a table of seconds per epoch for each device."""
    blocks = []
    for part in split(records, by_device=True):
        timed = [(group, value) for group in group_runs(part) if (value := group.seconds_per_epoch()) is not None]
        rows = [[group.name, str(value.count), spread_text(value)] for group, value in timed]
        if rows:
            caption = f"Seconds per epoch on {_escaped(part[0].device)}: the median epoch of each run, over runs."
            blocks += [caption, _table(["run", "runs", "seconds per epoch"], rows)]
    return blocks


def _escaped(text: str) -> str:
    """Return words that Markdown takes literally, on one line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(sentence)}" for sentence in sentences)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is words and whose others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    marked = [line if place == 1 else map(_escaped, line) for place, line in enumerate(lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in marked)
