"""The command line: ``aureole list | show | run | rerun | evaluate | report``."""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from aureole.core.config import from_values, to_values
from aureole.core.errors import InputError, unknown_name
from aureole.options import parse, parse_known

_HELP = """aureole: adversarial local distributions in PyTorch

  aureole list                              every recipe
  aureole show NAME [--field value]         its full configuration
  aureole run NAME [--field value]          train, evaluate, record and report
  aureole rerun RECORD                      repeat a recorded run and compare
  aureole evaluate RUN --attacks pgd-200    attack a trained model
  aureole report FOLDER                     one HTML page of all runs below a folder

Try:
  aureole run demo
  aureole run robust-ald-pgd --setting mnist --data.source MNIST_FOLDER --method.search.num-particles 8
  aureole evaluate runs/demo/pgd --attacks pgd-50x2 mim-40 --radius 0.1

Each command has --help, and --json for machines. A killed run resumes when the same command is given again."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Train, evaluate, record and report what a recipe or a record describes.

    `aureole list` names the recipes; `aureole run RECIPE --help` explains a recipe's own options and fields.

    Attributes:
        output: folder of the run; by default one named after the recipe or the record, in runs.
        json: print the records as JSON, and nothing else.
        quiet: no progress bar.
    """

    output: Path | None = None
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Attack the finished runs of a folder on the test set, and add the results to their records.

    Attributes:
        attacks: names KIND[-STEPS][xRESTARTS]: fgsm, rfgsm, bim, mim, pgd; such as pgd-200 or pgd-50x2.
        radius: of the ball; by default the run's own.
        step_size: of the iterative attacks; by default the run's own.
        num_examples: the first so many test images; by default as in the run.
        batch_size: images at once; the result does not depend on it.
        seed: of the attacks' random starts.
        json: print the results as JSON, and nothing else.
    """

    attacks: tuple[str, ...] = ("pgd-20",)
    radius: float | None = None
    step_size: float | None = None
    num_examples: int | None = None
    batch_size: int = 250
    seed: int = 0
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class PlainOptions:
    """Print the recipes, or the full configuration of one.

    Attributes:
        json: print JSON, and nothing else.
    """

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write one self-contained HTML page about all runs below a folder, or the tables alone as Markdown.

    Attributes:
        title: heading of the page; by default the recipes and the data.
        markdown: file for the tables as Markdown, a section a sub-folder; then no HTML page is written.
        json: print the path as JSON.
    """

    title: str | None = None
    markdown: Path | None = None
    json: bool = False


def _say(text: str) -> None:
    print(text)


def _positional(arguments: Sequence[str], what: str, command: str, options: Any) -> tuple[str, list[str]]:
    """Split off the first argument, which says what a command is about; in its place, help may be asked for."""
    if arguments and arguments[0] in ("-h", "--help"):
        parse(type(options), ["--help"], prog=f"aureole {command} {what.upper()}", default=options)
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"'aureole {command}' needs {what} first: aureole {command} {what.upper()} [--field value]")
    return arguments[0], list(arguments[1:])


def _list(arguments: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from aureole.recipes import RECIPES

    options = parse(PlainOptions, arguments, prog="aureole list", default=PlainOptions())
    if options.json:
        return _say(json.dumps({recipe.name: recipe.summary for recipe in RECIPES.values()}, indent=1))
    table = Table(box=None, pad_edge=False)
    table.add_column("recipe")
    table.add_column("what it does")
    for recipe in RECIPES.values():
        table.add_row(recipe.name, recipe.summary)
    return Console().print(table)


def _configured(command: str, name: str, arguments: list[str]) -> Any:
    """Return what a recipe makes of the command line: its own options, then the fields of its run or of its engines."""
    from aureole.recipes import find_recipe
    from aureole.training.config import Engine, Training
    from aureole.training.sweep import Sweep, with_engine

    recipe, prog = find_recipe(name), f"aureole {command} {name}"
    if any(argument in ("-h", "--help") for argument in arguments):
        base = recipe.build()
        fields = base if isinstance(base, Training) else Engine()
        return _help(prog, recipe.build, *([_seeds] if fields is base else []), RunOptions(), fields)
    base, rest = parse_known(recipe.build, arguments, prog=prog)
    if not isinstance(base, Training):
        engine = parse(Engine, rest, prog=prog, default=Engine())
        changes = {f.name: getattr(engine, f.name) for f in fields_of(engine)}
        return with_engine(base, **{k: v for k, v in changes.items() if v != getattr(Engine(), k)})
    seeds, rest = parse_known(_seeds, rest, prog=prog)
    run = parse(Training, rest, prog=prog, default=base)
    runs = {f"seed{seed}": replace(run, seed=seed) for seed in seeds}
    return Sweep(title=run.title, runs=runs) if runs else run


def _seeds(seeds: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Several seeds make one run each.

    Args:
        seeds: of the runs; each gets a folder of its own.
    """
    return seeds


def _help(prog: str, *targets: Any) -> None:
    """Print the help of several sources of options, one after the other."""
    for target in targets:
        plain = callable(target)
        try:
            parse(target if plain else type(target), ["--help"], prog=prog, default=None if plain else target)
        except SystemExit:
            _say("")


def _show(arguments: Sequence[str]) -> None:
    name, rest = _positional(arguments, "recipe", "show", PlainOptions())
    if "--help" in rest or "-h" in rest:
        return _configured("show", name, rest)
    options, rest = parse_known(PlainOptions, rest, prog=f"aureole show {name}")
    config = _configured("show", name, rest)
    values = to_values(config)
    return _say(json.dumps(values, indent=1) if options.json else _indented(values))


def _indented(values: Any, depth: int = 0) -> str:
    """Return a configuration as indented lines, a field a line."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            kind = str(value.get("type", "")).rpartition(":")[2]
            inner = {k: v for k, v in value.items() if k != "type"}
            lines.append(f"{'  ' * depth}{key}: {kind}")
            if inner:
                lines.append(_indented(inner, depth + 1))
        elif key != "type":
            lines.append(f"{'  ' * depth}{key}: {value}")
    return "\n".join(lines)


def _run(arguments: Sequence[str]) -> None:
    name, rest = _positional(arguments, "recipe", "run", RunOptions())
    if "--help" in rest or "-h" in rest:
        _configured("run", name, rest)
        return None
    options, rest = parse_known(RunOptions, rest, prog=f"aureole run {name}")
    config = _configured("run", name, rest)
    return _execute(config, options.output or Path("runs") / name, name, options)


def _execute(config: Any, folder: Path, recipe: str, options: RunOptions) -> None:
    from aureole.training.sweep import Sweep, run_experiment, with_engine

    if options.quiet or options.json:
        config = with_engine(config, progress=False)
    records = run_experiment(config, folder, recipe=recipe)
    _summarise(records, folder, config.title if isinstance(config, Sweep) else None, as_json=options.json)


def _summarise(records: list[Any], folder: Path, title: str | None, *, as_json: bool) -> None:
    """Write the page, and print the table of methods and attacks."""
    from rich.console import Console

    from aureole.report import report, text_table

    page = report(folder, title=title)
    if as_json:
        return _say(
            json.dumps({"report": str(page), "records": [json.loads(_record_json(r)) for r in records]}, indent=1)
        )
    judged = [record for record in records if record.evaluations]
    console = Console()
    if judged:
        console.print(text_table(judged))
    for warning in dict.fromkeys(w for record in records for w in record.warnings):
        console.print(f"warning: {warning}", style="yellow")
    return console.print(f"report: {page}", soft_wrap=True)


def _record_json(record: Any) -> str:
    from aureole.core.schema import to_json

    return to_json(record)


def _rerun(arguments: Sequence[str]) -> None:
    from aureole.core.records import read_record
    from aureole.training.config import Training
    from aureole.training.study import DiversityStudy
    from aureole.training.sweep import run_experiment, with_engine

    path, rest = _positional(arguments, "record", "rerun", RunOptions())
    options = parse(RunOptions, rest, prog="aureole rerun RECORD", default=RunOptions())
    before, home = read_record(Path(path)), Path(path).resolve()
    home = home if home.is_dir() else home.parent
    folder = options.output or Path("runs") / f"rerun-{home.name}"
    if folder.resolve() == home:
        raise InputError(f"{folder} is the run to repeat: choose another --output")
    config = from_values(before.config)
    if not isinstance(config, Training | DiversityStudy):
        raise InputError(f"the record {path} holds no configuration of a run: repeat the run that wrote it")
    if options.quiet or options.json:
        config = with_engine(config, progress=False)
    after = run_experiment(config, folder, recipe=before.recipe)[-1]  # a study comes after its model
    _summarise([after], folder, None, as_json=options.json)
    if not options.json:
        was = {e.attack: e for e in before.evaluations}
        for now in after.evaluations:
            _say(f"{now.attack}: {now.accuracy:.4f} ({_verdict(was.get(now.attack), now)})")


def _verdict(was: Any, now: Any) -> str:
    """Compare an evaluation with the recorded one, which may since have been replaced by another."""
    if was is None or (was.num_examples, was.settings) != (now.num_examples, now.settings):
        return "recorded under other settings"
    return "as recorded" if was.num_correct == now.num_correct else f"recorded {was.accuracy:.4f}"


def _evaluate(arguments: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from aureole.core.records import find_records
    from aureole.training.run import check_names, evaluate_run

    path, rest = _positional(arguments, "run", "evaluate", EvaluateOptions())
    options = parse(EvaluateOptions, rest, prog="aureole evaluate RUN", default=EvaluateOptions())
    check_names(options.attacks)
    found = [p.parent for p, record in find_records(Path(path)) if record.kind == "training"]
    if not found:
        raise InputError(f"no finished run below {path}: give the folder of one")
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")  # a long path gives way to the numbers
    for column in ("attack", "accuracy", "95 % interval", "images", "s"):
        table.add_column(column, justify="left" if column == "attack" else "right", no_wrap=True)
    results: list[dict[str, Any]] = []
    for folder in found:
        for e in evaluate_run(folder, options):
            low, high = e.interval
            results.append({"run": str(folder), "attack": e.attack, "accuracy": e.accuracy, "interval": [low, high]})
            results[-1] |= {"num_examples": e.num_examples, "num_correct": e.num_correct, "seconds": e.seconds}
            cells = (f"{e.accuracy:.4f}", f"{low:.4f} to {high:.4f}", str(e.num_examples), f"{e.seconds:.1f}")
            table.add_row(str(folder), e.attack, *cells)
    if options.json:
        return _say(json.dumps(results, indent=1))
    return Console().print(table)


def _report(arguments: Sequence[str]) -> None:
    from aureole.core.records import replace_text
    from aureole.report import report
    from aureole.report.markdown import results_page

    path, rest = _positional(arguments, "folder", "report", ReportOptions())
    options = parse(ReportOptions, rest, prog="aureole report FOLDER", default=ReportOptions())
    page = options.markdown or report(Path(path), title=options.title)
    if options.markdown:
        replace_text(page, results_page(Path(path)))
    return _say(json.dumps({"report": str(page)}) if options.json else f"report: {page}")


_COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "list": _list, "show": _show, "run": _run, "rerun": _rerun, "evaluate": _evaluate, "report": _report,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; None takes the process's own.

    Returns:
        The exit status: 0; 2 for a mistake, which is said in one line on standard error; 130 when interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _dispatch(arguments)
    except InputError as error:
        print(f"aureole: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
    except OSError as error:
        print(f"aureole: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("aureole: interrupted; give the same command again to resume", file=sys.stderr)
        return 130
    except SystemExit as stop:  # help was printed
        return int(stop.code or 0)
    return 0


def _dispatch(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        return _say(_HELP)
    if arguments[0] == "--version":
        return _say(_version())
    if arguments[0] not in _COMMANDS:
        raise unknown_name("command", arguments[0], _COMMANDS)
    _keep_memory()
    return _COMMANDS[arguments[0]](arguments[1:])


def _keep_memory() -> None:
    """Let the C library keep freed memory instead of handing every large tensor back to the system.

    Otherwise each step on a CPU faults its activations in anew, which costs time with large batches. No result
    changes; elsewhere than on Linux nothing happens.
    """
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, 2**25)
        library.mallopt(trim_threshold, 2**31 - 1)


def _version() -> str:
    from aureole import __version__

    return __version__
