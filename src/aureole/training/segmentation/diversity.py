"""How spread the particles of several searches are on one trained segmentation network: thesis figure 6.2."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from aureole.core.model import frozen, predict
from aureole.core.random import Streams, mix_seed
from aureole.core.records import RECORD_NAME, DiversityRow, Record, read_record, write_record
from aureole.particles.diversity import distinct_wrong_labels
from aureole.segment import VAT
from aureole.training.callbacks import progress_bar
from aureole.training.config import Engine
from aureole.training.experiment import Runnable
from aureole.training.fit import claim_folder
from aureole.training.recording import Stopwatch, recorded
from aureole.training.segmentation.config import Segmenting
from aureole.training.segmentation.run import load_scans, load_segmenter, run_segmenting


@dataclass(frozen=True, kw_only=True)
class ScanDiversity(Runnable):
    """Compare the particles of several methods on one network, on unlabelled training images.

    Attributes:
        model: the run that trains the network; it lives in the folder ``model`` of the study.
        methods: whose searches are compared, by their names in the report.
        particles: numbers of particles.
        seeds: of the searches' starts.
        num_images: patches; the thesis picks 3.
        label: the row of the report.
        proxy_reason: how scale or data differ from the paper's; empty where they do not.
    """

    has_options: ClassVar[bool] = False

    model: Segmenting
    methods: Mapping[str, VAT]
    particles: tuple[int, ...] = (2, 3, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    num_images: int = 3
    label: str = "diversity"
    proxy_reason: str = ""

    @property
    def title(self) -> str:
        """The row of the report."""
        return self.label

    def run(self, folder: Path, *, recipe: str = "") -> list[Record]:
        """Train the network, and study it; a finished study is returned as it is.

        Raises:
            InputError: scans, network or folder cannot be used.
        """
        return [run_segmenting(self.model, folder / "model", recipe=recipe), _study(self, folder, recipe)]

    def with_engine(self, **changes: object) -> ScanDiversity:
        """Return the same study with fields of the run's engine changed."""
        return replace(self, model=self.model.with_engine(**changes))

    def with_seed(self, seed: int) -> ScanDiversity:
        """Return the same study of a network under another seed."""
        return replace(self, model=self.model.with_seed(seed))


def _study(study: ScanDiversity, folder: Path, recipe: str) -> Record:
    claim_folder(study, folder)
    if (folder / RECORD_NAME).exists():
        return read_record(folder)
    watch = Stopwatch()
    network, _ = load_segmenter(folder / "model")
    splits = load_scans(study.model)
    scans = splits.train
    index = torch.arange(len(scans))[-study.num_images :]  # of the last patients of the list, unlabelled
    x, _ = study.model.augment(scans, index, Streams.of(mix_seed(study.seeds[0], 6), index), with_label=False)
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
        diversity=_rows(study, network, x),
        proxy=bool(study.model.departure),
        proxy_reason=study.model.departure,
    )
    write_record(record, folder)
    return record


def _rows(study: ScanDiversity, network: nn.Module, x: Tensor) -> list[DiversityRow]:
    rows = []
    with progress_bar(enabled=study.model.engine.progress) as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the kernel is too narrow")  # the rows show the kernel's value
        task = bar.add_task(study.title, total=len(study.methods) * len(study.particles) * len(study.seeds), note="")
        for name, method in study.methods.items():
            for number in study.particles:
                for seed in study.seeds:
                    rows.append(_row(name, method, network, x, number, seed))
                    bar.update(task, advance=1, note=name)
    return rows


def _row(name: str, method: VAT, network: nn.Module, x: Tensor, number: int, seed: int) -> DiversityRow:
    """Return spread and strength of the particles; classes are counted at each position."""
    search = method.search_on(network, number)
    streams = Streams.of(mix_seed(seed, 5), torch.arange(len(x)))
    clock = time.perf_counter()
    particles = search(network, x, generator=streams)
    seconds = time.perf_counter() - clock
    with torch.no_grad(), frozen(network):
        clean = predict(network, x, positions=True)
        logits = [predict(network, rows, positions=True) for rows in particles.x_adv]
    objective = torch.stack([search.objective(found, clean) for found in logits])
    predictions, labels = torch.stack([found.argmax(1).flatten() for found in logits]), clean.argmax(1).flatten()
    return DiversityRow(
        sampler=name,
        num_particles=number,
        seed=seed,
        squared_distance=float(particles.squared_distance.mean()),
        cosine=float(particles.cosine.mean()),
        distinct_wrong_labels=float(distinct_wrong_labels(predictions, labels).float().mean()),
        objective=float(objective.mean()),
        adversarial_accuracy=float((predictions == labels).all(0).float().mean()),
        kernel=None if particles.kernel is None else float(particles.kernel.mean()),
        seconds=seconds,
    )
