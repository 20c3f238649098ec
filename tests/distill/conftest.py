"""A tiny student and teacher in double precision, with a batch, for the tests of TALD."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from aureole.core.balls import L2
from aureole.core.method import Batch
from aureole.core.random import Streams
from aureole.distill.tald import TALD

BALL = L2(0.3, bounds=None)
PLAIN = TALD(search=replace(TALD().search, ball=BALL))


def network(seed: int, *, norm: bool = False) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    middle = nn.BatchNorm1d(6) if norm else nn.Identity()
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), middle, nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def batch(rows: Tensor | None = None, *, index: Tensor | None = None) -> Batch:
    rows = torch.arange(8) if rows is None else rows
    x = torch.randn(8, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return Batch(x[rows], rows % 3, index=index, streams=Streams.of(4, rows))


class Count:
    """Rows that a model has seen, and passes."""

    def __init__(self, model: nn.Module) -> None:
        self.rows: list[int] = []
        model.register_forward_pre_hook(lambda _, inputs: self.rows.append(len(inputs[0])))
