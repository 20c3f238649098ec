"""``aureole run | rerun``: train, evaluate, record and report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aureole.cli.common import positional, say
from aureole.cli.configure import RunOptions, configured
from aureole.core.config import from_values
from aureole.core.errors import InputError
from aureole.options import parse, parse_known


def run(arguments: Sequence[str]) -> None:
    """Run a recipe: train, evaluate, record and report."""
    name, rest = positional(arguments, "recipe", "run", RunOptions())
    if "--help" in rest or "-h" in rest:
        configured("run", name, rest)
        return None
    options, rest = parse_known(RunOptions, rest, prog=f"aureole run {name}")
    config = configured("run", name, rest)
    return execute(config, options.output or Path("runs") / name, name, options)


def execute(config: Any, folder: Path, recipe: str, options: RunOptions) -> None:
    """Run a configuration in a folder, and summarise its records."""
    from aureole.training.sweep import Sweep, run_experiment, with_engine

    if options.quiet or options.json:
        config = with_engine(config, progress=False)
    records = run_experiment(config, folder, recipe=recipe)
    summarise(records, folder, config.title if isinstance(config, Sweep) else None, as_json=options.json)


def summarise(
    records: list[Any], folder: Path, title: str | None, *, as_json: bool, more: dict[str, Any] | None = None
) -> None:
    """Write the page, and print the tables of attacks, segmentations and refined attacks; ``more`` joins the JSON."""
    from rich.console import Console

    from aureole.core.schema import to_json
    from aureole.report import refinement_tables, report, segmentation_table, text_table

    page = report(folder, title=title)
    if as_json:
        values = {"report": str(page), "records": [json.loads(to_json(record)) for record in records]}
        return say(json.dumps(values | (more or {}), indent=1))
    judged = [record for record in records if record.evaluations]
    console = Console()
    if judged:
        console.print(text_table(judged))
    if any(record.segmentations for record in records):
        console.print(segmentation_table(records))
    for table in refinement_tables(records):
        console.print(table)
    for warning in dict.fromkeys(w for record in records for w in record.warnings):
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    return console.print(f"report: {page}", soft_wrap=True)


def rerun(arguments: Sequence[str]) -> None:
    """Repeat a recorded run, or the evaluation of a user's model, and compare."""
    from aureole.core.records import read_record

    path, rest = positional(arguments, "record", "rerun", RunOptions())
    options = parse(RunOptions, rest, prog="aureole rerun RECORD", default=RunOptions())
    before, home = read_record(Path(path)), Path(path).resolve()
    home = home if home.is_dir() else home.parent
    folder = options.output or Path("runs") / f"rerun-{home.name}"
    if folder.resolve() == home:
        raise InputError(f"{folder} is the run to repeat: choose another --output")
    after = _repeated(before, path, home, folder, quiet=options.quiet or options.json)
    was = _rows(before)
    verdicts = {name: _verdict(was.get(name), now) for name, now in _rows(after).items()}
    dice = _dice(after)
    verdicts |= {name: _dice_verdict(_dice(before).get(name), now) for name, now in dice.items()}
    summarise([after], folder, None, as_json=options.json, more={"verdicts": verdicts})
    if not options.json:
        for name, now in _rows(after).items():
            say(f"{name}: {now.accuracy:.4f} ({verdicts[name]})")
        for name, now in dice.items():
            say(f"{name}: {now.dice:.4f} ({verdicts[name]})")


def _rows(record: Any) -> dict[str, Any]:
    """Return the accuracies of a record by name: of attacks, and of refined attacks."""
    refined = {f"{row.attack}, {row.pixels}": row for row in record.refinement}
    return {row.attack: row for row in record.evaluations} | refined


def _dice(record: Any) -> dict[str, Any]:
    """Return the rows of a record of segmentation by name."""
    return {f"Dice, {row.class_name}": row for row in record.segmentations}


def _dice_verdict(was: Any, now: Any) -> str:
    if was is None or (was.scans, was.rule) != (now.scans, now.rule):
        return "recorded under other settings"
    return "as recorded" if was.dice_by_scan == now.dice_by_scan else f"recorded {was.dice:.4f}"


def _repeated(before: Any, path: str, home: Path, folder: Path, *, quiet: bool) -> Any:
    """Return the record of a run that does what a record says."""
    from aureole.core.records import read_record
    from aureole.training.config import Training
    from aureole.training.evaluation.evaluate import run_job
    from aureole.training.evaluation.judge import Job
    from aureole.training.experiment import Runnable
    from aureole.training.sweep import run_experiment, with_engine

    config = from_values(before.config)
    if isinstance(config, Job):
        run_job(replace(config, progress=not quiet), folder)
        return read_record(folder)
    if not isinstance(config, Training | Runnable):
        raise InputError(f"the record {path} holds no configuration of a run: repeat the run that wrote it")
    config = config.again(home) if isinstance(config, Runnable) else config
    experiment = with_engine(config, progress=False) if quiet else config
    return run_experiment(experiment, folder, recipe=before.recipe)[-1]  # a study comes after its model


def _verdict(was: Any, now: Any) -> str:
    """Compare an evaluation with the recorded one, which may since have been replaced by another."""
    settings = [(row.num_examples, getattr(row, "settings", None)) for row in (was, now) if row is not None]
    if was is None or settings[0] != settings[1]:
        return "recorded under other settings"
    return "as recorded" if was.num_correct == now.num_correct else f"recorded {was.accuracy:.4f}"
