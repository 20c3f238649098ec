"""Natural training: the undefended classifier that every robust one is compared with.

L = CE(f(x), y)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.functional import cross_entropy

from aureole.core.method import Batch, Method, Terms
from aureole.core.model import predict


@dataclass(frozen=True, kw_only=True)
class Natural(Method):
    """Cross-entropy on the clean images.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> list(Natural().loss(model, batch))
        ['clean']
    """

    title: ClassVar[str] = "natural"

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the clean cross-entropy."""
        return Terms(clean=cross_entropy(predict(model, batch.x), batch.y))
