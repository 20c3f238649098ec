"""Runs that take a moment: 48 digits, batches of 16, one search step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aureole import Linf, Natural, ParticleSearch, PGDTraining
from aureole.data import Data
from aureole.training.config import SGD, Engine, Evaluation, Training

TINY = Training(
    method=PGDTraining(search=ParticleSearch(Linf(0.15), num_particles=1, num_steps=1, step_size=0.1, kernel=None)),
    data=Data(num_train=48, num_validation=20),
    optimizer=SGD(learning_rate=0.05, milestones=(2,)),
    epochs=3,
    batch_size=16,
    evaluation=Evaluation(ball=Linf(0.15), step_size=0.05, attacks=("fgsm",), num_examples=20),
    engine=Engine(progress=False, accelerator="cpu"),
)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Training]:
    return lambda **changes: replace(TINY, **changes)


@pytest.fixture
def on_each_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], list[Any]]:
    """Collect what a function says about the training module after every step."""
    from aureole.training.module import TrainingModule

    def install(observe: Callable[[Any], Any]) -> list[Any]:
        seen: list[Any] = []
        original = TrainingModule.training_step

        def step(self: Any, batch: Any, batch_idx: int) -> None:
            original(self, batch, batch_idx)
            seen.append(observe(self))

        monkeypatch.setattr(TrainingModule, "training_step", step)
        return seen

    return install


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where anything is trained."""
    from aureole.training import run

    def refuse(*_: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(run, "fit", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="session")
def _trained(tiny: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    from aureole.training.run import run_training

    slow = replace(tiny().evaluation, num_examples=60)
    data = Data(num_train=400, num_validation=20)
    run_training(tiny(epochs=6, data=data, method=Natural(), optimizer=SGD(milestones=()), evaluation=slow), folder)
    return folder


@pytest.fixture
def judgeable(_trained: Path, folder: Path) -> Path:
    """Return a finished run whose model knows the digits a little, a copy for this test alone."""
    return shutil.copytree(_trained, folder)
