"""A run from configuration to record: train, evaluate, write down."""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from aureole.attacks import named_attack
from aureole.core import records
from aureole.core.config import to_values
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.records import DataRecord, Record, environment, git_commit, read_record, write_record
from aureole.data import BatchLoader, ImageSet
from aureole.metrics import evaluate
from aureole.training.callbacks import progress_bar
from aureole.training.config import Evaluation, Training
from aureole.training.fit import claim_folder, fit, load_model


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
    _judged_on(config, config.evaluation)  # what is wrong with it shows now, not after hours of training
    network, history, seconds = fit(config, folder, splits)
    evaluations, notes, num_test = run_attacks(network, config, config.evaluation)
    notes = [*_divergence(history), *notes]
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
            num_test=num_test if config.evaluation.part == "test" else 0,
        ),
        started=started.isoformat(timespec="seconds"),
        wall_seconds=time.perf_counter() - clock,
        seconds_per_epoch=seconds,
        history=history,
        evaluations=evaluations,
        paper=dict(config.paper),
        proxy=bool(config.proxy_reason),
        proxy_reason=config.proxy_reason,
        warnings=notes,
    )
    write_record(record, folder)
    return record


def _divergence(history: Sequence[dict[str, float]]) -> list[str]:
    """Say so where training diverged, as the accuracies then say nothing about the method."""
    first = next((row["epoch"] for row in history if not math.isfinite(row["train/loss"])), None)
    if first is None:
        return []
    return [f"the training loss is not finite from epoch {first:g} on: lower the learning rate, or clip the gradient"]


def run_attacks(
    network: nn.Module, config: Training, plan: Evaluation
) -> tuple[list[records.Evaluation], list[str], int]:
    """Judge a network: natural accuracy, then each attack of the plan.

    Args:
        network: maps images to logits.
        config: the run that the network comes from: its data and its device.
        plan: attacks, number of images, seed.

    Returns:
        One evaluation an attack, what makes them hard to believe, and the number of images used.
    """
    attacks = {name: named_attack(name, plan.ball, plan.step_size) for name in dict.fromkeys(plan.attacks)}
    images = _judged_on(config, plan)
    wants_gpu = config.engine.accelerator != "cpu" and torch.cuda.is_available()
    device = "cuda" if wants_gpu else "cpu"
    loader = BatchLoader(
        images, batch_size=min(plan.batch_size, len(images)), seed=plan.seed, shuffle=False, device=device
    )
    network = network.to(device).eval()
    results: list[records.Evaluation] = []
    with warnings.catch_warnings(record=True) as caught, progress_bar(enabled=config.engine.progress) as bar:
        warnings.simplefilter("default", UntrustedResult)
        for name, attack in {"natural": None, **attacks}.items():
            task = bar.add_task(f"{config.title}: {name}", total=len(images), note="")
            clock = time.perf_counter()
            loader.set_epoch(0)
            count = evaluate(network, loader, attack, advance=lambda n, task=task: bar.advance(task, n))
            results.append(
                records.Evaluation(
                    attack=name,
                    num_examples=count.num_examples,
                    num_correct=count.num_correct,
                    seconds=time.perf_counter() - clock,
                    settings={"seed": plan.seed}
                    if attack is None
                    else {"seed": plan.seed, "attack": to_values(attack)},
                )
            )
    notes = list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UntrustedResult)))
    return results, notes, len(images)


def _judged_on(config: Training, plan: Evaluation) -> ImageSet:
    if plan.part == "test":
        return config.data.test(plan.num_examples)
    validation = config.data.train_and_validation().validation
    return validation.subset(torch.arange(min(plan.num_examples or len(validation), len(validation))))


@runtime_checkable
class Changes(Protocol):
    """What an evaluation may change of a run's own plan; None leaves it."""

    attacks: tuple[str, ...]
    radius: float | None
    step_size: float | None
    num_examples: int | None
    batch_size: int
    seed: int


def evaluate_run(folder: Path, changes: Changes) -> list[records.Evaluation]:
    """Evaluate a finished run anew, and add the results to its record.

    Args:
        folder: the run's folder.
        changes: what differs from the run's own plan.

    Returns:
        The new evaluations, natural accuracy first. They replace those of the same name on no more images.

    Raises:
        InputError: there is no finished run, or an attack's name is unknown.
    """
    network, config = load_model(folder)
    record, own = read_record(folder), config.evaluation
    plan = replace(
        own,
        ball=own.ball if changes.radius is None else replace(own.ball, radius=changes.radius),
        step_size=own.step_size if changes.step_size is None else changes.step_size,
        attacks=changes.attacks,
        num_examples=own.num_examples if changes.num_examples is None else changes.num_examples,
        batch_size=changes.batch_size,
        seed=changes.seed,
    )
    results, notes, _ = run_attacks(network, config, plan)
    if plan.ball != own.ball:  # another threat: a row of its own, and the run's own natural accuracy stays
        named = [replace(e, attack=f"{e.attack}@{plan.ball.radius:g}") for e in results if e.attack != "natural"]
        results = [e for e in results if e.attack == "natural"] + named
    kept = {e.attack: e for e in record.evaluations}
    kept |= {e.attack: e for e in results if e.attack not in kept or e.num_examples >= kept[e.attack].num_examples}
    warned = list(dict.fromkeys([*record.warnings, *notes]))
    write_record(replace(record, evaluations=list(kept.values()), warnings=warned), folder)
    return results


def describe_device(accelerator: str, devices: int) -> str:
    """Return the device in words, without naming the host."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return f"{devices} x {torch.cuda.get_device_name()}"
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads, {devices} processes)"


def check_names(names: Sequence[str]) -> None:
    """Check that attacks of these names exist, before hours are spent on training.

    Raises:
        InputError: one does not.
    """
    for name in names:
        named_attack(name, Evaluation().ball, 0.01)
    if "natural" in names:
        raise InputError("'natural' is always evaluated: leave it out of the attacks")
