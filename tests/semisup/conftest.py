"""A tiny problem in double precision: labelled images, unlabelled ones in two views, and a network with memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aureole.core.method import Batch, Unlabelled
from aureole.core.random import Streams

LABELLED, UNLABELLED, CLASSES = 4, 6, 3


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def net() -> nn.Module:
    """A network with batch normalisation, in training mode, with running statistics that are not those of the batch."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, CLASSES)
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
        model[1].running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
        model[1].running_var.copy_(torch.tensor([0.5, 1.5, 1.0, 0.8]))
    return model


@pytest.fixture
def x() -> Tensor:
    """Labelled images."""
    return images(LABELLED, 2)


@pytest.fixture
def y() -> Tensor:
    """Labels."""
    return torch.tensor([0, 1, 2, 2])


@pytest.fixture
def x_u() -> tuple[Tensor, Tensor]:
    """Two views of the unlabelled images."""
    first = images(UNLABELLED, 3)
    return first, (first + 0.1 * images(UNLABELLED, 4)).clamp(0, 1)


@pytest.fixture
def batch(x: Tensor, y: Tensor, x_u: tuple[Tensor, Tensor]) -> Callable[..., Batch]:
    """A function that returns the same batch with so many views, with fresh streams, at every call."""

    def make(views: int = 1, *, epoch: int = 1000, step: int = 0) -> Batch:
        streams = Streams.of(7, torch.arange(UNLABELLED))
        unlabelled = Unlabelled(x_u[:views], index=torch.arange(UNLABELLED), streams=streams)
        return Batch(x, y, epoch=epoch, step=step, streams=Streams.of(5, torch.arange(LABELLED)), unlabelled=unlabelled)

    return make
