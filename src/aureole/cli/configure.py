"""What a recipe makes of the command line."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from aureole.cli.common import say
from aureole.options import parse, parse_known


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


def configured(command: str, name: str, arguments: list[str]) -> Any:
    """Return what a recipe makes of the command line: its own options, then the fields of its run or of its engines."""
    from aureole.recipes import find_recipe
    from aureole.training.config import Engine
    from aureole.training.experiment import Around
    from aureole.training.sweep import over_seeds, with_engine

    recipe, prog = find_recipe(name), f"aureole {command} {name}"
    asked = [argument for argument in arguments if argument not in ("-h", "--help")]
    if len(asked) < len(arguments):
        base, _ = parse_known(recipe.build, asked, prog=prog)  # the fields are those of what was chosen
        fields = base if _has_options(base) else Engine()
        return print_help(prog, recipe.build, *([_seeds] if fields is base else []), RunOptions(), fields)
    base, rest = parse_known(recipe.build, arguments, prog=prog)
    before = [*inspect.signature(recipe.build).parameters, *(f.name for f in fields_of(RunOptions))]
    if not _has_options(base):
        engine = parse(Engine, rest, prog=prog, default=Engine(), elsewhere=before)
        changes = {f.name: getattr(engine, f.name) for f in fields_of(engine)}
        return with_engine(base, **{k: v for k, v in changes.items() if v != getattr(Engine(), k)})
    seeds, rest = parse_known(_seeds, rest, prog=prog)
    run = parse(type(base), rest, prog=prog, default=base, elsewhere=[*before, "seeds"])
    run = _declared(base, run.carrying(base) if isinstance(run, Around) else run)
    return over_seeds(run, seeds) if seeds else run


def _declared(base: Any, run: Any) -> Any:
    """Return a run whose proxy reason names the settings that the command line changed in those of its recipe.

    Where the data is, how a run is judged and what it is called are no departure from a paper.
    """
    from aureole.core.config import to_values
    from aureole.report.aggregate import differences

    main = getattr(run, "main", None)
    inner, before = (getattr(each, main) if main else each for each in (run, base))
    if not hasattr(inner, "proxy_reason") or inner.proxy_reason != before.proxy_reason:
        return run
    plain = ("engine", "evaluation", "label", "paper", "data.source")
    changed = sorted(name for name in differences([to_values(before), to_values(inner)]) if not name.startswith(plain))
    if not changed:
        return run
    own = f"settings of its own: {', '.join(changed)}"
    inner = replace(inner, proxy_reason="; ".join(filter(None, [inner.proxy_reason, own])))
    return replace(run, **{main: inner}) if main else inner


def _has_options(base: Any) -> bool:
    """Say whether the fields of what a recipe returned are options of the command line."""
    from aureole.training.config import Training
    from aureole.training.experiment import Runnable

    return isinstance(base, Training) or (isinstance(base, Runnable) and base.has_options)


def _seeds(seeds: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Several seeds make one run each.

    Args:
        seeds: of the runs; each gets a folder of its own.
    """
    return seeds


def print_help(prog: str, *targets: Any) -> None:
    """Print the help of several sources of options, one after the other."""
    for target in targets:
        plain = callable(target)
        try:
            parse(target if plain else type(target), ["--help"], prog=prog, default=None if plain else target)
        except SystemExit:
            say("")
