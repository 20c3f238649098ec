"""Several runs as one: each in its folder, one after the other, those that are done left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from aureole.core.records import Record
from aureole.training.config import Training
from aureole.training.refinement.run import Refinement, run_refinement
from aureole.training.run import check_names, run_training
from aureole.training.study import DiversityStudy, run_study

Experiment = Training | DiversityStudy | Refinement


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
        experiment: a training run, a study, a refinement, or a sweep of them.
        folder: where it lives; a sweep gives each run a folder inside.
        recipe: name of the recipe.

    Returns:
        The records, in the order of the runs.

    Raises:
        InputError: data, model or a folder cannot be used.
    """
    if isinstance(experiment, Sweep):
        for run in experiment.runs.values():
            check_names(_training(run).evaluation.attacks)
        return [r for name, run in experiment.runs.items() for r in run_experiment(run, folder / name, recipe=recipe)]
    if isinstance(experiment, DiversityStudy):
        attacked = run_training(experiment.model, folder / "model", recipe=recipe)
        return [attacked, run_study(experiment, folder, recipe=recipe)]
    check_names(_training(experiment).evaluation.attacks)
    if isinstance(experiment, Refinement):
        return [run_refinement(experiment, folder, recipe=recipe)]
    return [run_training(experiment, folder, recipe=recipe)]


def _training(experiment: Experiment) -> Training:
    """Return the training run in an experiment."""
    if isinstance(experiment, DiversityStudy):
        return experiment.model
    return experiment.refiner if isinstance(experiment, Refinement) else experiment


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
    if isinstance(experiment, Refinement):
        victim = experiment.victim
        changed = with_engine(victim, **changes) if isinstance(victim, Training) else victim
        return replace(experiment, refiner=with_engine(experiment.refiner, **changes), victim=changed)
    return replace(experiment, engine=replace(experiment.engine, **changes))  # pyright: ignore[reportArgumentType]


def with_seed(run: Training | Refinement, seed: int) -> Training | Refinement:
    """Return the same run under another seed.

    Example:
        >>> with_seed(Training(), 3).seed
        3
    """
    if isinstance(run, Refinement):
        return replace(run, refiner=replace(run.refiner, seed=seed))
    return replace(run, seed=seed)
