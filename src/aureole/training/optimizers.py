"""Optimisers and their schedules as configurations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, MultiStepLR

from aureole.core.errors import InputError

Schedule = Literal["steps", "iterations", "cosine", "constant"]


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """An optimiser and its schedule.

    Attributes:
        learning_rate: at the start.
        weight_decay: L2 penalty.
        schedule: ``"steps"`` multiplies the rate by ``factor`` after each epoch in ``milestones``, ``"iterations"``
            after each batch in them, counted over the whole run; ``"cosine"`` lets it fall to zero over the run;
            ``"constant"`` keeps it.
        milestones: epochs or batches, counted from 1.
        factor: at each milestone.
    """

    learning_rate: float = 0.01
    weight_decay: float = 0.0
    schedule: Schedule = "steps"
    milestones: tuple[int, ...] = (75, 90)
    factor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate must be positive and finite; got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay must be at least 0 and finite; got {self.weight_decay}")

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of some parameters."""

    def build_schedule(self, optimizer: torch.optim.Optimizer, epochs: int) -> LRScheduler:
        """Return the schedule of an optimiser over a run."""
        if self.schedule == "constant":
            return ConstantLR(optimizer, factor=1.0)
        if self.schedule == "cosine":
            return CosineAnnealingLR(optimizer, epochs)
        return MultiStepLR(optimizer, list(self.milestones), self.factor)


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent.

    Attributes:
        momentum: of the steps.
        nesterov: look ahead.
    """

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must lie in [0, 1); got {self.momentum}")
        if self.nesterov and self.momentum == 0:
            raise InputError("nesterov needs a momentum above 0; got 0")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of some parameters."""
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True, kw_only=True)
class RAdam(Optimizer):
    """Adam with a rectified start (Liu et al. 2020)."""

    learning_rate: float = 1e-3
    schedule: Schedule = "constant"

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of some parameters."""
        return torch.optim.RAdam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015)."""

    learning_rate: float = 1e-3
    schedule: Schedule = "constant"

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of some parameters."""
        return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
