"""Several runs as one: each in its folder, one after the other, those that are done left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from aureole.core.records import Record
from aureole.training.config import Training
from aureole.training.run import check_names, run_training
from aureole.training.study import DiversityStudy, run_study

Experiment = Training | DiversityStudy


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Runs by the name of their folder.

    Attributes:
        title: heading of the report.
        runs: folder name -> run.
    """

    title: str
    runs: Mapping[str, Experiment] = field(default_factory=dict)


def run_experiment(experiment: Experiment | Sweep, folder: Path, *, recipe: str = "") -> list[Record]:
    """Run whatever a recipe returned.

    Args:
        experiment: a training run, a study, or a sweep of them.
        folder: where it lives; a sweep gives each run a folder inside.
        recipe: name of the recipe.

    Returns:
        The records, in the order of the runs.

    Raises:
        InputError: data, model or a folder cannot be used.
    """
    if isinstance(experiment, Sweep):
        for run in experiment.runs.values():
            check_names((run.model if isinstance(run, DiversityStudy) else run).evaluation.attacks)
        return [r for name, run in experiment.runs.items() for r in run_experiment(run, folder / name, recipe=recipe)]
    if isinstance(experiment, DiversityStudy):
        attacked = run_training(experiment.model, folder / "model", recipe=recipe)
        return [attacked, run_study(experiment, folder, recipe=recipe)]
    check_names(experiment.evaluation.attacks)
    return [run_training(experiment, folder, recipe=recipe)]


def with_engine(experiment: Experiment | Sweep, **changes: object) -> Experiment | Sweep:
    """Return the same runs with some fields of their :class:`~aureole.training.config.Engine` changed.

    Example:
        >>> with_engine(Training(), devices=2).engine.devices
        2
    """
    if isinstance(experiment, Sweep):
        return replace(experiment, runs={name: with_engine(run, **changes) for name, run in experiment.runs.items()})
    if isinstance(experiment, DiversityStudy):
        return replace(experiment, model=with_engine(experiment.model, **changes))
    return replace(experiment, engine=replace(experiment.engine, **changes))  # pyright: ignore[reportArgumentType]
