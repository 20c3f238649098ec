"""Supervised only: cross-entropy on the labelled images, the baseline that unlabelled images are to beat.

    L = CE(f(x_l), y)

Unlabelled images in the batch are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.functional import cross_entropy

from aureole.core import checks
from aureole.core.averaged import Averaged
from aureole.core.method import Batch, Terms
from aureole.core.model import predict


@dataclass(frozen=True, kw_only=True)
class Supervised(Averaged):
    """Cross-entropy on the labelled images alone.

    Attributes:
        ema_decay: of a moving average of the model, in [0, 1); None keeps none.
        ema_buffers: whether the average copies the model's running statistics, or averages them too.

    Example:
        >>> from aureole.semisup import Supervised
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> list(Supervised().loss(model, Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))))
        ['labelled']
    """

    title: ClassVar[str] = "Supervised only"

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy."""
        checks.check_labels(batch.y, batch.x)
        checks.check_device(model, batch.x)
        logits = predict(model, batch.x)
        checks.check_batch_classes(batch.y, logits.shape[1], batch.step)
        return Terms(labelled=cross_entropy(logits, batch.y))
