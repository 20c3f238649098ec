"""A run from configuration to record: train, evaluate, write down."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from aureole.attacks import named_attack
from aureole.core import records
from aureole.core.config import to_values
from aureole.core.errors import InputError
from aureole.core.records import DataRecord, Record, environment, git_commit, read_record, write_record
from aureole.data import FewLabelsSplits
from aureole.training.config import Evaluation, Training
from aureole.training.evaluation.evaluate import describe_device, run_attacks
from aureole.training.evaluation.judge import forget
from aureole.training.evaluation.sources import judged_images
from aureole.training.evaluation.trials import check_radius
from aureole.training.fit import claim_folder, fit


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
    started, clock = datetime.now(UTC), time.perf_counter()
    splits = config.data.train_and_validation()
    judged_images(
        config.data, config.evaluation, splits
    )  # what is wrong with it shows now, not after hours of training
    check_radius(config.evaluation.ball, splits.train.image_shape)
    network, history, seconds = fit(config, folder, splits)
    judged = run_attacks(network, config, config.evaluation, folder)
    commit, dirty = git_commit()
    record = Record(
        kind="training",
        recipe=recipe,
        method=config.method.title,
        label=config.title,
        num_particles=config.method.num_particles,
        seed=config.seed,
        config=to_values(config),
        versions=environment(),
        commit=commit,
        dirty=dirty,
        device=describe_device(config.engine.accelerator, config.engine.devices),
        data=DataRecord(
            name=splits.train.name,
            fingerprint=splits.train.fingerprint,
            num_train=len(splits.train),
            num_validation=len(splits.validation),
            num_test=judged.num_examples if config.evaluation.part == "test" else 0,
            labelled_index=list(splits.labelled_index) if isinstance(splits, FewLabelsSplits) else [],
        ),
        started=started.isoformat(timespec="seconds"),
        wall_seconds=time.perf_counter() - clock,
        seconds_per_epoch=seconds,
        history=history,
        evaluations=judged.rows,
        paper=dict(config.paper),
        proxy=bool(config.proxy_reason),
        proxy_reason=config.proxy_reason,
        warnings=[*_divergence(history), *judged.notes],
    )
    write_record(record, folder)
    forget(judged.job, folder, judged.num_examples)
    return record


def _divergence(history: Sequence[dict[str, float]]) -> list[str]:
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
