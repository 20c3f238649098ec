"""Several runs as one: each in its folder, one after the other, those that are done left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aureole.core.records import Record
from aureole.training.config import Training
from aureole.training.experiment import Runnable
from aureole.training.run import check_names, run_training

Experiment = Training | Runnable


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
        experiment: a training run, something that runs itself, or a sweep of them.
        folder: where it lives; a sweep gives each run a folder inside.
        recipe: name of the recipe.

    Returns:
        The records, in the order of the runs.

    Raises:
        InputError: data, model or a folder cannot be used.
    """
    if isinstance(experiment, Sweep):
        for run in experiment.runs.values():
            check_names(_attacks(run))
        return [r for name, run in experiment.runs.items() for r in run_experiment(run, folder / name, recipe=recipe)]
    check_names(_attacks(experiment))
    if isinstance(experiment, Runnable):
        return experiment.run(folder, recipe=recipe)
    return [run_training(experiment, folder, recipe=recipe)]


def _attacks(experiment: Experiment) -> tuple[str, ...]:
    return experiment.attacks if isinstance(experiment, Runnable) else experiment.evaluation.attacks


def with_engine(experiment: Experiment | Sweep, **changes: object) -> Experiment | Sweep:
    """Return the same runs with some fields of their :class:`~aureole.training.config.Engine` changed.

    Example:
        >>> with_engine(Training(), devices=2).engine.devices
        2
    """
    if isinstance(experiment, Sweep):
        return replace(experiment, runs={name: with_engine(run, **changes) for name, run in experiment.runs.items()})
    if isinstance(experiment, Runnable):
        return experiment.with_engine(**changes)
    return replace(experiment, engine=replace(experiment.engine, **changes))  # pyright: ignore[reportArgumentType]


def over_seeds(run: Experiment, seeds: Sequence[int]) -> Sweep:
    """Return the same run under several seeds, each in a folder of its own; they share a victim or a teacher.

    Example:
        >>> list(over_seeds(Training(), (0, 3)).runs)
        ['seed0', 'seed3']
    """
    alone = run.beside() if isinstance(run, Runnable) else run
    return Sweep(title=run.title, runs={f"seed{seed}": with_seed(alone, seed) for seed in seeds})


def with_seed(run: Experiment, seed: int) -> Experiment:
    """Return the same run under another seed.

    Example:
        >>> with_seed(Training(), 3).seed
        3
    """
    return run.with_seed(seed) if isinstance(run, Runnable) else replace(run, seed=seed)
