"""A run from configuration to record: train, evaluate, write down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from aureole.attacks import named_attack
from aureole.core import records
from aureole.core.errors import InputError
from aureole.core.records import Record, read_record, write_record
from aureole.data import Splits
from aureole.training.config import Evaluation, Training
from aureole.training.evaluation.evaluate import run_attacks
from aureole.training.evaluation.judge import forget
from aureole.training.evaluation.sources import judged_images
from aureole.training.evaluation.trials import check_radius
from aureole.training.fit import claim_folder, fit
from aureole.training.recording import Stopwatch, recorded


def run_training(config: Training, folder: Path, *, recipe: str = "") -> Record:
    """Train, evaluate and record one run; a finished run is returned as it is, an interrupted one is resumed.

    Args:
        config: the run.
        folder: where it lives; made when it does not exist.
        recipe: name of the recipe that made the configuration.

    Returns:
        The record that ``folder/record.json`` holds.

    Raises:
        InputError: data, model or folder cannot be used.
    """
    claim_folder(config, folder)
    if (folder / records.RECORD_NAME).exists():
        return read_record(folder)
    watch = Stopwatch()
    splits = config.data.train_and_validation()
    judged_images(
        config.data, config.evaluation, splits
    )  # what is wrong with it shows now, not after hours of training
    check_radius(config.evaluation.ball, splits.train.image_shape)
    return conclude(config, config, folder, splits, watch, fit(config, folder, splits), recipe=recipe)


def conclude(
    config: Any,
    run: Training,
    folder: Path,
    splits: Splits,
    watch: Stopwatch,
    fitted: tuple[nn.Module, list[dict[str, float]], list[float]],
    *,
    recipe: str,
    notes: Sequence[str] = (),
    **measured: Any,
) -> Record:
    """Judge a classifier that has been trained, and write its record.

    Args:
        config: what the record repeats: the run, or an experiment around it.
        run: the training run.
        folder: where it lives.
        splits: training and validation images.
        watch: since the run began.
        fitted: the network, its history and the seconds of each epoch, from :func:`~aureole.training.fit.fit`.
        recipe: name of the recipe that made the configuration.
        notes: what makes a further field hard to believe.
        measured: further fields of the record.
    """
    network, history, seconds = fitted
    judged = run_attacks(network, run, run.evaluation, folder)
    record = recorded(
        "training",
        config,
        splits,
        watch,
        engine=run.engine,
        num_test=judged.num_examples if run.evaluation.part == "test" else 0,
        recipe=recipe,
        method=run.method.title,
        num_particles=run.method.num_particles,
        seed=run.seed,
        seconds_per_epoch=seconds,
        history=history,
        evaluations=judged.rows,
        paper=dict(run.paper),
        proxy=bool(run.proxy_reason),
        proxy_reason=run.proxy_reason,
        warnings=[*divergence(history), *judged.notes, *notes],
        **measured,
    )
    write_record(record, folder)
    forget(judged.job, folder, judged.num_examples)
    return record


def divergence(history: Sequence[dict[str, float]]) -> list[str]:
    """Say so where training diverged, as the accuracies then say nothing about the method."""
    first = next((row["epoch"] for row in history if not math.isfinite(row["train/loss"])), None)
    if first is None:
        return []
    return [f"the training loss is not finite from epoch {first:g} on: lower the learning rate, or clip the gradient"]


def check_names(names: Sequence[str]) -> None:
    """Check that attacks of these names exist, before hours are spent on training.

    Raises:
        InputError: one does not.
    """
    for name in names:
        named_attack(name, Evaluation().ball, 0.01)
    if "natural" in names:
        raise InputError("'natural' is always evaluated: leave it out of the attacks")
