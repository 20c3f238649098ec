"""A run stops when its training loss has stopped to fall, and stays stopped when it is taken up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from aureole.core.errors import InputError
from aureole.core.method import Batch, Method, Terms
from aureole.training.config import Training
from aureole.training.fit import fit


@dataclass(frozen=True, kw_only=True)
class Scripted(Method):
    """The loss of each epoch is given."""

    title: ClassVar[str] = "scripted"
    losses: tuple[float, ...]

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        nothing = sum((p.sum() for p in model.parameters()), torch.tensor(0.0)) * 0
        return Terms(scripted=nothing + self.losses[batch.epoch])


LOSSES = (5.0, 3.0, 3.5, 2.0, 2.0, 4.0, 3.0, 1.0)  # the least so far, at the fourth epoch, is repeated, not beaten


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (3, 7), (4, 8), (None, 8)])
def test_the_loss_decides_when_a_run_stops(
    tiny: Callable[..., Training], folder: Path, patience: int | None, epochs: int
) -> None:
    config = tiny(method=Scripted(losses=LOSSES), epochs=len(LOSSES), patience=patience)
    folder.mkdir()
    splits = config.data.train_and_validation()
    _, history, _ = fit(config, folder, splits)
    assert [row["train/loss"] for row in history] == list(LOSSES[:epochs])
    _, again, _ = fit(config, folder, splits)  # from its last checkpoint
    assert again == history


def test_patience_is_at_least_one_epoch(tiny: Callable[..., Training]) -> None:
    with pytest.raises(InputError, match="patience must be at least 1"):
        tiny(patience=0)
