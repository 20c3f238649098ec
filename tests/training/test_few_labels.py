"""A run on few labels: its batches, the images that its record names, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.core.method import Batch, Method, Terms
from aureole.data import FewLabels, read
from aureole.robust import Natural
from aureole.semisup import MeanTeacher
from aureole.training.config import Training
from aureole.training.fit import CHECKPOINT, fit, load_model
from aureole.training.run import run_training


@dataclass(frozen=True, kw_only=True)
class Watching(Method):
    """Trains on the labels, and keeps what it saw."""

    title: ClassVar[str] = "watching"
    views: ClassVar[tuple[str, ...]] = ("weak", "strong")
    seen: list[Batch] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        self.seen.append(batch)
        return Natural().loss(model, batch)

    def after_step(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> None:
        self.steps.append(batch.step)


@pytest.fixture
def few(tiny: Callable[..., Training]) -> Training:
    data = FewLabels(num_labelled=30, num_validation=20)
    return tiny(data=data, batch_size=15, unlabelled_batch_size=20, steps_per_epoch=4, views="digits", epochs=2)


def test_a_method_gets_the_views_that_it_wants_and_hears_of_each_step(few: Training, folder: Path) -> None:
    method = Watching()
    config = replace(few, method=method)
    splits = config.data.train_and_validation()
    folder.mkdir()
    fit(config, folder, splits)
    assert method.steps == [0, 1, 2, 3] * 2
    for batch in method.seen:
        assert batch.unlabelled is not None
        assert (len(batch), len(batch.unlabelled)) == (15, 20)
        weak, strong = batch.unlabelled.views
        assert weak.shape == strong.shape == (20, 1, 8, 8)
        assert not torch.equal(weak, strong)
        assert 0 <= float(strong.min()) <= float(strong.max()) <= 1
    labelled = {int(i) for batch in method.seen for i in (batch.index if batch.index is not None else [])}
    assert labelled == set(range(30))


def test_a_method_without_views_gets_none(few: Training, folder: Path) -> None:
    class Plain(Watching):
        views: ClassVar[tuple[str, ...]] = ()

    method = Plain()
    folder.mkdir()
    fit(replace(few, method=method), folder, few.data.train_and_validation())
    assert len(method.seen) == 8
    assert all(batch.unlabelled is None for batch in method.seen)


def test_the_record_names_the_labelled_images(few: Training, folder: Path) -> None:
    record = run_training(few, folder)
    index = torch.tensor(record.data.labelled_index)
    assert len(index) == record.data.num_train == 30
    whole, splits = read("digits", "train"), few.data.train_and_validation()
    assert torch.equal(whole.batch(index), splits.train.batch(torch.arange(30)))
    assert torch.equal(whole.labels[index], splits.train.labels)
    assert whole.labels[index].bincount().tolist() == [3] * 10


def test_the_averaged_weights_are_what_is_stored_and_judged(few: Training, folder: Path) -> None:
    method = MeanTeacher(ema_decay=0.9)
    config = replace(few, method=method)
    record = run_training(config, folder)
    stored, _ = load_model(folder)
    state = torch.load(folder / CHECKPOINT, weights_only=True)["state_dict"]
    name = "conv1.weight" if "network.conv1.weight" in state else next(iter(stored.state_dict()))
    assert torch.equal(stored.state_dict()[name], state[f"parts.ema.model.{name}"])
    assert not torch.equal(stored.state_dict()[name], state[f"network.{name}"])
    last = record.history[-1]
    validation = config.data.train_and_validation().validation
    with torch.no_grad():
        logits = stored(validation.batch(torch.arange(20)).float() / 255)
    assert abs(float((logits.argmax(-1) == validation.labels).float().mean()) - last["validation/ema_accuracy"]) < 1e-6


def test_what_does_not_fit_is_said(few: Training, folder: Path) -> None:
    with pytest.raises(InputError, match="unlabelled_batch_size must be at least 1"):
        replace(few, unlabelled_batch_size=0)
    with pytest.raises(InputError, match="30"):
        run_training(replace(few, batch_size=31), folder)
