"""A refinement as a run: a victim, an attack on it, the map learned from both, and what the refined attack is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import tyro
from torch import nn

from aureole.attacks.base import Attack
from aureole.attacks.gradient import PGD
from aureole.core.balls import Linf
from aureole.core.errors import InputError, unknown_name
from aureole.core.records import (
    RECORD_NAME,
    Record,
    read_record,
    write_record,
)
from aureole.data import Splits
from aureole.models import MAPS, MODELS, ModelConfig
from aureole.refine import PVAR, Detector, StoredSource
from aureole.training.config import Training
from aureole.training.evaluation.sources import ForeignModel
from aureole.training.experiment import Around, prepared
from aureole.training.fit import CONFIG, claim_folder, fit
from aureole.training.optimizers import RAdam
from aureole.training.recording import Stopwatch, recorded
from aureole.training.refinement.attacked import Attacked, attacked
from aureole.training.refinement.measure import Judge, measure, write_pairs

#: The settings of thesis 3.4.2.
LEARNER = Training(
    method=PVAR(),
    model=ModelConfig(name="vulnerability-unet"),
    optimizer=RAdam(),
    epochs=300,
    patience=15,
    batch_size=32,
)


@dataclass(frozen=True, kw_only=True)
class Refinement(Around):
    """Learn which pixels of a victim's images are vulnerable from an attack on it, and judge the refined attack.

    Attributes:
        refiner: the run that trains the map; its method is a PVAR, its data are what it learns from and is judged on,
            and its label is the row of the report.
        victim: the attacked classifier: a run that trains it, on data from the same place as the refiner's, or a
            user's own model; None takes the finished run in ``victim_folder``.
        victim_folder: of the victim, seen from the folder of this run.
        sources: attacks by name. The first is what the map learns from, and all are refined with it.
        compare: attacks that are judged as they are, beside.
        num_examples: the first so many test images; None for all.
        detector: tells adversarial from natural images.
        rivals: judge rankings without a network, too, at the same number of pixels.
        num_pictures: test images whose maps, refined and compared images are kept for the report and a user study.
    """

    main: ClassVar[str] = "refiner"
    other: ClassVar[str] = "victim"

    refiner: Annotated[Training, tyro.conf.arg(name="")] = LEARNER  # its fields are options without a prefix
    victim: Annotated[Training | ForeignModel | None, tyro.conf.Suppress] = None
    victim_folder: str = "victim"
    sources: Annotated[Mapping[str, Attack], tyro.conf.Suppress] = field(
        default_factory=lambda: {"pgd-40": PGD(ball=Linf(0.3), num_steps=40, step_size=0.01)}
    )
    compare: Annotated[Mapping[str, Attack], tyro.conf.Suppress] = field(default_factory=dict)
    num_examples: int | None = None
    detector: Detector = Detector()
    rivals: bool = True
    num_pictures: int = 15

    def __post_init__(self) -> None:
        if not isinstance(self.refiner.method, PVAR):
            raise InputError(f"a refinement trains a PVAR; got the method {self.refiner.method.title}")
        self._check_network(self.refiner.method)
        if not self.sources:
            raise InputError("a refinement needs at least one attack to refine; got none")
        for name, count in {"num_examples": self.num_examples, "num_pictures": self.num_pictures}.items():
            if count is not None and count < 1:
                raise InputError(f"{name} must be at least 1; got {count}")

    def _check_network(self, method: PVAR) -> None:
        name = self.refiner.model.name
        if name in MODELS:
            known = ", ".join(MAPS)
            raise InputError(f"a refinement trains a map of pixels; {name} is a classifier: choose one of {known}")
        if name not in MAPS:
            raise unknown_name("map network", name, MAPS)
        if method.conditioned != name.endswith("-conditioned"):
            wanted = "that ends in -conditioned" if method.conditioned else "without -conditioned"
            raise InputError(f"method.conditioned is {method.conditioned}: choose a map {wanted}; got {name}")
        if method.targeted:
            raise InputError(
                "the attacks of a run are untargeted, so that nothing reaches a class to be refined: leave"
                " method.targeted False, or train PVAR(targeted=True) in a loop of your own with a targeted attack"
            )

    @property
    def title(self) -> str:
        """The row of the report."""
        assert isinstance(self.refiner.method, PVAR)
        return self.refiner.label or f"{next(iter(self.sources))}, {self.refiner.method.share:g} of the pixels"

    def run(self, folder: Path, *, recipe: str = "") -> list[Record]:
        """Run it; see :func:`run_refinement`."""
        return [run_refinement(self, folder, recipe=recipe)]


def run_refinement(config: Refinement, folder: Path, *, recipe: str = "") -> Record:
    """Train the victim if need be, attack it, learn the map, judge and record; a finished run is returned as it is.

    Args:
        config: the run.
        folder: where it lives; made when it does not exist.
        recipe: name of the recipe that made the configuration.

    Returns:
        The record that ``folder/record.json`` holds.

    Raises:
        InputError: data, model or folder cannot be used, or the attack changes nothing.
    """
    new = not (folder / CONFIG).exists()
    claim_folder(config, folder)
    if (folder / RECORD_NAME).exists():
        return read_record(folder)
    watch = Stopwatch()
    learner, method = config.refiner, config.refiner.method
    assert isinstance(method, PVAR)
    splits = learner.data.train_and_validation()
    victim = prepared(config.victim, folder / config.victim_folder, learner, splits, recipe)
    device = next((p.device for p in victim.parameters()), torch.device("cpu"))
    try:
        config.detector.check(victim, splits.train.batch(torch.arange(1)).to(device).float().div_(255))
    except InputError:
        if new:  # leave the folder to a detector that fits
            (folder / CONFIG).unlink()
        raise
    learned = {part: _attacked(config, folder, victim, part, splits) for part in ("train", "validation")}
    source = StoredSource(victim, learned["train"].x_source, learned["validation"].x_source)
    network, history, seconds = fit(learner, folder, splits, source)
    test, victim = learner.data.test(config.num_examples), victim.to(device)  # attacks run where the victim ran before
    pairs = {
        name: _attacked(config, folder, victim, "test", splits, name) for name in (*config.sources, *config.compare)
    }
    victim = victim.cpu()
    judge = Judge.of(victim, config.detector, learned["train"].x, splits.train.labels)
    refiner, num_compared = method.refiner(network), len(config.compare)
    rows = measure(judge, refiner, pairs, test.labels, num_compared=num_compared, rivals=config.rivals)
    write_pairs(judge, refiner, pairs, test, config.num_pictures, folder / "pairs.npz", num_compared=num_compared)
    record = recorded(
        "refinement",
        config,
        splits,
        watch,
        engine=learner.engine,
        num_test=len(test),
        recipe=recipe,
        method=method.title,
        seed=learner.seed,
        seconds_per_epoch=seconds,
        history=history,
        refinement=rows,
        paper=dict(learner.paper),
        proxy=bool(learner.proxy_reason),
        proxy_reason=learner.proxy_reason,
    )
    write_record(record, folder)
    return record


def _attacked(
    config: Refinement, folder: Path, victim: nn.Module, part: str, splits: Splits, name: str | None = None
) -> Attacked:
    """Return the images of an attack on one part of the data: of the first source, where none is named."""
    learner, name = config.refiner, name or next(iter(config.sources))
    images = learner.data.test(config.num_examples) if part == "test" else getattr(splits, part)
    attack = {**config.sources, **config.compare}[name]
    home = folder / config.victim_folder / "attacked"
    found = attacked(
        victim, attack, images, home, seed=learner.seed, name=f"{name}-{part}", progress=learner.engine.progress
    )
    if name in config.sources and torch.equal(found.x, found.x_source):
        raise InputError(f"the attack {name} changes none of the {len(images)} images: there is nothing to refine")
    return found
