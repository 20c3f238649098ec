"""``aureole evaluate``: attack a trained model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from aureole.cli.common import positional, say
from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError
from aureole.options import parse

if TYPE_CHECKING:
    from aureole.core.records import Evaluation
    from aureole.training.evaluation.judge import Judged
    from aureole.training.evaluation.sources import ForeignModel
    from aureole.training.evaluation.trials import Changes

_BALLS: dict[str, type[Ball]] = {"linf": Linf, "l2": L2, "l1": L1}


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Attack trained models on their test images, and add the results to their records.

    RUN is the folder of a finished run, or of several. In its place, --model names any function that returns a
    torch.nn.Module, such as my_models:resnet, and --data the images. A command that was interrupted goes on when it is
    given again.

    Attributes:
        attack: one or several, KIND[-STEPS][xRESTARTS]: such as pgd-200, pgd-50x2, autoattack, apgd-ce, square-1000,
            brendel-bethge, cw, deepfool, jsma or cornersearch.
        radius: of the ball, in the units of the images; several give a security curve. By default the run's own; 8/255
            for a model.
        ball: linf, l2 or l1; by default the run's own, linf for a model.
        step_size: of the iterative attacks; by default the run's own share of the radius, a quarter for a model.
        num_examples: the first so many test images; by default as in the run, all for a model.
        batch_size: images at once; the result does not depend on it.
        seed: of the attacks' random numbers; by default the run's own.
        devices: processes that share the images; the result is the same.
        restart: drop what an interrupted evaluation has decided.
        model: module:function in place of RUN; the module may lie in the current directory.
        weights: a .safetensors file, or a state dictionary that torch.save wrote; by default the function's own.
        data: where the images are: digits, a folder, an .npz file, or a name on the hub.
        num_classes: handed to the function by this name.
        output: folder of the record of a model's evaluation; by default runs/evaluate-FUNCTION.
        json: print the results as JSON, and nothing else.
        quiet: no progress bar.
    """

    attack: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--attacks",))] = ("pgd-20",)
    radius: tuple[float, ...] = ()
    ball: Literal["linf", "l2", "l1"] | None = None
    step_size: float | None = None
    num_examples: int | None = None
    batch_size: int = 250
    seed: int | None = None
    devices: int = 1
    restart: bool = False
    model: str | None = None
    weights: Path | None = None
    data: str | None = None
    num_classes: int | None = None
    output: Path | None = None
    json: bool = False
    quiet: bool = False

    @property
    def changes(self) -> Changes:
        """What this evaluation changes of a model's own plan."""
        from aureole.training.evaluation.trials import Changes

        return Changes(
            attacks=self.attack,
            geometry=None if self.ball is None else _BALLS[self.ball],
            radius=self.radius,
            step_size=self.step_size,
            num_examples=self.num_examples,
            batch_size=self.batch_size,
            seed=self.seed,
            devices=self.devices,
            progress=not (self.json or self.quiet),
            restart=self.restart,
        )


def evaluate(arguments: Sequence[str]) -> None:
    """Attack trained models, and add the results to their records."""
    from aureole.training.evaluation.judge import forget
    from aureole.training.run import check_names

    path, options = _read(arguments)
    check_names(options.attack)
    results: list[dict[str, Any]] = []
    finished: list[tuple[Path, Judged]] = []
    for folder, judged in _evaluations(path, options):
        finished.append((folder, judged))
        results += [_values(folder, row, judged) for row in judged.rows]
        if not options.json:
            _print(folder, judged)
    for folder, judged in finished:  # what is decided is kept until all of them are done
        forget(judged.job, folder, judged.num_examples)
    if options.json:
        say(json.dumps(results, indent=1))


def _read(arguments: Sequence[str]) -> tuple[Path | None, EvaluateOptions]:
    """Return the run's folder, or None where a model is named, and the options."""
    default = EvaluateOptions()
    named = any(argument.partition("=")[0] == "--model" for argument in arguments)
    if named and arguments[0].startswith("-"):
        return None, parse(EvaluateOptions, arguments, prog="aureole evaluate", default=default)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        raise InputError(
            "'aureole evaluate' needs run first: aureole evaluate RUN [--field value];"
            " or --model module:function --data SOURCE in its place"
        )
    path, rest = positional(arguments, "run", "evaluate", default)
    options = parse(EvaluateOptions, rest, prog="aureole evaluate RUN", default=default)
    foreign = [name for name in ("model", "weights", "data", "num_classes", "output") if getattr(options, name)]
    if foreign:
        raise InputError(
            f"--{foreign[0].replace('_', '-')} is for a model of your own: give a run or --model, not both"
        )
    return Path(path), options


def _evaluations(path: Path | None, options: EvaluateOptions) -> Any:
    """Yield the folder and the outcome of each evaluation, one after the other."""
    from aureole.core.records import find_records
    from aureole.training.evaluation.evaluate import evaluate_model, evaluate_run
    from aureole.training.evaluation.trials import default_plan

    if path is None:
        source = _source(options)
        plan = default_plan(_BALLS[options.ball or "linf"], *_radius(options))
        folder = options.output or Path("runs") / f"evaluate-{source.title}"
        yield folder, evaluate_model(source, plan, options.changes, folder, keep=True)
        return
    found = [p.parent for p, record in find_records(path) if record.kind in ("training", "evaluation")]
    if not found:
        raise InputError(f"no finished run below {path}: give the folder of one")
    for folder in found:
        yield folder, evaluate_run(folder, options.changes, keep=True)


def _radius(options: EvaluateOptions) -> tuple[float]:
    if not options.radius and options.ball not in (None, "linf"):
        raise InputError(f"--ball {options.ball} needs a --radius: 8/255 is one of linf")
    return (options.radius[0] if options.radius else 8 / 255,)


def _source(options: EvaluateOptions) -> ForeignModel:
    from aureole.data import Data
    from aureole.training.evaluation.sources import ForeignModel

    if options.model is None or options.data is None:
        raise InputError("--model needs --data: digits, a folder, an .npz file, or a name on the hub")
    weights = None if options.weights is None else str(options.weights)
    data = Data(source=options.data)
    return ForeignModel(model=options.model, weights=weights, data=data, num_classes=options.num_classes)


def _values(folder: Path, row: Evaluation, judged: Judged) -> dict[str, Any]:
    return {
        "run": str(folder),
        "attack": row.attack,
        "accuracy": row.accuracy,
        "interval": list(row.interval),
        "num_examples": row.num_examples,
        "num_correct": row.num_correct,
        "seconds": row.seconds,
        "seconds_per_image": row.seconds_per_image,
        "radius": row.radius,
        "l0": row.l0,
        "l2": row.l2,
        "linf": row.linf,
        "outcomes": str(judged.outcomes),
        "warnings": [note for note in judged.notes if note.startswith((f"{row.attack}: ", f"{row.series}: "))],
    }


def _print(folder: Path, judged: Judged) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{folder}: {judged.num_examples} images", soft_wrap=True, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("attack", overflow="fold")
    for column in ("accuracy", "95 % interval", "L0", "L2", "Linf", "s/image"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in judged.rows:
        low, high = row.interval
        moved = ("" if value is None else f"{value:.3g}" for value in (row.l0, row.l2, row.linf))
        table.add_row(
            row.attack, f"{row.accuracy:.4f}", f"{low:.3f} to {high:.3f}", *moved, f"{row.seconds_per_image:.2g}"
        )
    console.print(table)
    for note in judged.notes:
        console.print(f"warning: {note}", style="yellow", soft_wrap=True, highlight=False, markup=False)
    console.print(f"outcomes: {judged.outcomes}", soft_wrap=True, highlight=False, markup=False)
