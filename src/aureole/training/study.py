"""A study of diversity: how spread and how strong the particles of several samplers are on one trained model.

Thesis section 5.5.1 (figures 5.1, 5.2). The images come from the validation set: a study chooses settings.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from aureole.attacks import BSSAttack
from aureole.core.errors import InputError
from aureole.core.model import frozen, predict
from aureole.core.objectives import Objective
from aureole.core.random import Streams, mix_seed
from aureole.core.records import (
    RECORD_NAME,
    DiversityRow,
    Record,
    read_record,
    write_record,
)
from aureole.data import Splits
from aureole.particles import Particles, ParticleSearch
from aureole.particles.diversity import Diversity
from aureole.training.callbacks import progress_bar
from aureole.training.config import Engine, Training
from aureole.training.experiment import Around
from aureole.training.fit import claim_folder, load_model
from aureole.training.recording import Stopwatch, recorded
from aureole.training.run import run_training


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A search under a name; the study sets its number of particles.

    Attributes:
        name: the line in the report.
        search: the search; or an attack of which every particle is a run of its own, with its own start and target.
        objective: what the strength of a particle is measured by; None takes the search's own.
    """

    name: str
    search: ParticleSearch | BSSAttack
    objective: Objective | None = None

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor, number: int, streams: Streams) -> Particles:
        """Return so many particles of each image."""
        if isinstance(self.search, ParticleSearch):
            return replace(self.search, num_particles=number)(network, x, y, generator=streams)
        found = [self.search.cross(network, x, generator=streams.fork(place)).x_adv for place in range(number)]
        return Particles(torch.stack(found), x, torch.zeros(number, len(x)), None)

    def measure(self, particles: Particles, network: nn.Module, y: Tensor) -> Diversity:
        """Return strength and spread of some particles."""
        own = self.search.objective if isinstance(self.search, ParticleSearch) else None
        return particles.diversity(network, y, self.objective or own)


@dataclass(frozen=True, kw_only=True)
class DiversityStudy(Around):
    """Compare samplers on one model.

    Attributes:
        model: the run that trains the attacked model; it lives in the folder ``model`` of the study.
        samplers: what is compared; the first and the last are also shown as pictures.
        particles: numbers of particles.
        seeds: of the samplers' starts and noise.
        num_images: validation images attacked.
        num_pictures: of them, shown in the report, with 3 particles each.
        label: the row of the report.
        proxy_reason: how scale or data differ from the paper's; empty where they do not.
    """

    model: Training
    samplers: tuple[Sampler, ...]
    particles: tuple[int, ...] = (2, 4, 8, 16)
    seeds: tuple[int, ...] = (0, 1, 2)
    num_images: int = 64
    num_pictures: int = 3
    label: str = "diversity"
    proxy_reason: str = ""

    main: ClassVar[str] = "model"
    has_options: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """The row of the report."""
        return self.label

    def run(self, folder: Path, *, recipe: str = "") -> list[Record]:
        """Train the model, and study it; see :func:`run_study`."""
        attacked = run_training(self.model, folder / "model", recipe=recipe)
        return [attacked, run_study(self, folder, recipe=recipe)]


def run_study(study: DiversityStudy, folder: Path, *, recipe: str = "") -> Record:
    """Train the model if need be, run every sampler, and record the rows; a finished study is returned as it is.

    Args:
        study: what is compared.
        folder: where it lives.
        recipe: name of the recipe that made the configuration.

    Returns:
        The record that ``folder/record.json`` holds.

    Raises:
        InputError: data, model or folder cannot be used.
    """
    claim_folder(study, folder)
    if (folder / RECORD_NAME).exists():
        return read_record(folder)
    run_training(study.model, folder / "model", recipe=recipe)
    watch = Stopwatch()
    network, _ = load_model(folder / "model")
    splits = study.model.data.train_and_validation()
    x, y = _images(study, splits, network)
    rows = _rows(study, network, x, y)
    pictured = x[: study.num_pictures], y[: study.num_pictures]
    for place, sampler in enumerate((study.samplers[0], study.samplers[-1])):
        _picture(sampler, network, *pictured, splits.train.class_names, folder / f"particles-{place}.npz")
    record = recorded(
        "diversity",
        study,
        splits,
        watch,
        engine=Engine(accelerator="cpu"),
        num_test=0,
        recipe=recipe,
        method="diversity",
        seed=study.seeds[0],
        diversity=rows,
        proxy=bool(study.proxy_reason),
        proxy_reason=study.proxy_reason,
    )
    write_record(record, folder)
    return record


def _images(study: DiversityStudy, splits: Splits, network: nn.Module) -> tuple[Tensor, Tensor]:
    """Return validation images that the model classifies correctly."""
    validation = splits.validation
    everything = torch.arange(len(validation))
    x, y = validation.batch(everything).float() / 255, validation.labels
    with torch.no_grad(), frozen(network):
        correct = torch.cat([predict(network, part) for part in x.split(250)]).argmax(-1) == y
    x, y = x[correct][: study.num_images], y[correct][: study.num_images]
    if len(x) == 0:
        raise InputError("the model classifies no validation image correctly: train it longer")
    return x, y


def _rows(study: DiversityStudy, network: nn.Module, x: Tensor, y: Tensor) -> list[DiversityRow]:
    rows = []
    with progress_bar(enabled=study.model.engine.progress) as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the kernel is too narrow")  # the rows show the kernel's value
        total = len(study.samplers) * len(study.seeds) * len(study.particles)
        task = bar.add_task(study.title, total=total, note="")
        for sampler in study.samplers:
            for num_particles in study.particles:
                for seed in study.seeds:
                    rows.append(_row(sampler, network, x, y, num_particles, seed))
                    bar.update(task, advance=1, note=sampler.name)
    return rows


def _row(sampler: Sampler, network: nn.Module, x: Tensor, y: Tensor, num_particles: int, seed: int) -> DiversityRow:
    streams = Streams.of(mix_seed(seed, 5), torch.arange(len(x)))
    clock = time.perf_counter()
    particles = sampler(network, x, y, num_particles, streams)
    seconds = time.perf_counter() - clock
    measured = sampler.measure(particles, network, y)
    return DiversityRow(
        sampler=sampler.name,
        num_particles=num_particles,
        seed=seed,
        squared_distance=float(measured.squared_distance.mean()),
        cosine=float(measured.cosine.mean()),
        distinct_wrong_labels=float(measured.distinct_wrong_labels.float().mean()),
        objective=float(measured.objective.mean()),
        adversarial_accuracy=float((measured.predictions == y).all(0).float().mean()),
        kernel=None if particles.kernel is None else float(particles.kernel.mean()),
        seconds=seconds,
    )


def _picture(
    sampler: Sampler, network: nn.Module, x: Tensor, y: Tensor, class_names: tuple[str, ...], path: Path
) -> None:
    """Store three particles of a few images, for the report to draw."""
    particles = sampler(network, x, y, 3, Streams.of(0, torch.arange(len(x))))
    predictions = sampler.measure(particles, network, y).predictions
    np.savez_compressed(
        path,
        x=x.numpy(),
        x_adv=particles.x_adv.numpy(),
        labels=y.numpy(),
        predictions=predictions.numpy(),
        class_names=np.array(class_names),
        title=np.array(sampler.name),
    )
