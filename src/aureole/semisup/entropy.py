"""Entropy minimisation: predictions on unlabelled images are to be sure, alone or beside VAT.

    H(x_u) = -sum_k p_k log p_k,    p = softmax f(x_u)

    L = CE(f(x_l), y) + weight * H(x_u)                                               Grandvalet and Bengio 2005
    L = CE(f(x_l), y) + weight * D(f(x_u), f(x_u + r)) + entropy_weight * H(x_u)       Miyato et al. 2019, section 3.5

In the second, the clean predictions are trained by their entropy, and yet are constants in the distance. The entropy
has a pass of its own beside those of VAT, whose statistics the running ones follow with ``batch_norm="separate"``
alone. No departures but those of :mod:`aureole.semisup.vat`.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.checks import check_weight
from aureole.core.method import Batch, Terms
from aureole.core.model import predict, statistics_kept
from aureole.semisup.base import SemiSupervised
from aureole.semisup.vat import VAT


def entropy(logits: Float[Tensor, "rows classes"]) -> Float[Tensor, " rows"]:
    """Return the entropy of each prediction, in nats.

    Example:
        >>> from aureole.semisup.entropy import entropy
        >>> entropy(torch.zeros(1, 4)).exp()
        tensor([4.])
    """
    log_p = logits.log_softmax(-1)
    return -torch.where(log_p.isinf(), 0.0, log_p.exp() * log_p).sum(-1)


@dataclass(frozen=True, kw_only=True)
class EntropyMinimisation(SemiSupervised):
    """Cross-entropy on labelled images, entropy on unlabelled ones.

    Attributes:
        weight: of the entropy.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import EntropyMinimisation
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x_u = Unlabelled((torch.rand(8, 1, 2, 2),))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), unlabelled=x_u)
        >>> list(EntropyMinimisation().loss(model, batch))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "Entropy minimisation"

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy and the entropy."""
        (x,) = self._views(model, batch)
        passes = self._passes(model, batch, trained=[x])
        return self._terms(batch, passes.labelled, entropy(passes.trained[0]))


@dataclass(frozen=True, kw_only=True)
class VATEntropy(VAT):
    """VAT with entropy minimisation ("VAT + EntMin").

    Attributes:
        entropy_weight: of the entropy; ramped as the distance is.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import VATEntropy
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x_u = Unlabelled((torch.rand(8, 1, 2, 2),))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), unlabelled=x_u)
        >>> list(VATEntropy().loss(model, batch))
        ['labelled', 'unlabelled', 'entropy']
    """

    title: ClassVar[str] = "VAT + EntMin"

    entropy_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("entropy_weight", self.entropy_weight)

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the terms of VAT, and the weighted entropy."""
        terms = super().loss(model, batch, modules)
        (x,) = self._views(model, batch)
        with nullcontext() if self.batch_norm == "separate" else statistics_kept(model):
            values = entropy(predict(model, x))
        terms["entropy"] = self.entropy_weight * self.ramp(batch.epoch) * values.mean()
        return terms
