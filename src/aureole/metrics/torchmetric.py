"""Robust accuracy as a ``torchmetrics.Metric``, for loops and loggers that take such metrics."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics import Metric

from aureole.core.random import Streams
from aureole.metrics.robustness import AttackLike, attack_success


class RobustAccuracy(Metric):
    """Share of images that a model classifies correctly, clean and under an attack; sums over processes and batches.

    Args:
        attack: any callable ``(model, x, y, generator=...) -> x_adv`` with a ``ball``.

    Example:
        >>> from aureole.metrics import RobustAccuracy
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> accuracy = RobustAccuracy(FGSM(ball=Linf(0.1)))
        >>> accuracy.update(model, torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64))
        >>> bool(0 <= accuracy.compute() <= 1)
        True
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    correct: Tensor
    total: Tensor

    def __init__(self, attack: AttackLike) -> None:
        super().__init__()
        self.attack = attack
        self.add_state("correct", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"],
        generator: torch.Generator | Streams | None = None,
    ) -> None:
        """Attack one batch; see :func:`aureole.metrics.attack_success`."""
        self.correct += attack_success(model, self.attack, x, y, generator=generator).robust.sum()
        self.total += len(x)

    def compute(self) -> Float[Tensor, ""]:
        """Return the share of images that stood, over all batches so far."""
        return self.correct / self.total
