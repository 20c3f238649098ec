"""Pseudo-Label: the most probable class of an unlabelled image is taken for its label.

    L = CE(f(x_l), y) + weight * ramp(epoch) * [max softmax f(x_u) >= threshold] CE(f(x_u), argmax f(x_u))

Lee 2013, Eqs. 15 and 16. The mean is over all unlabelled images, kept or not. Departures: the ramp begins at epoch 0
(theirs, linear, at 100 steps); a threshold, which later codes have (0.95), is 0 here as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aureole.core.checks import check_share
from aureole.core.method import Batch, Terms
from aureole.core.ramps import Linear, Ramp
from aureole.semisup.base import SemiSupervised
from aureole.semisup.passes import BatchNorm


def confident_cross_entropy(
    logits: Float[Tensor, "rows classes"], targets: Float[Tensor, "rows classes"], threshold: float
) -> Float[Tensor, " rows"]:
    """Return the cross-entropy of the class that the targets hold for most probable; 0 where they are not sure.

    Args:
        logits: what is trained.
        targets: logits without gradient.
        threshold: the least probability that counts, in [0, 1].

    Example:
        >>> from aureole.semisup.pseudo_label import confident_cross_entropy
        >>> targets = torch.tensor([[9.0, 0.0], [0.1, 0.0]])
        >>> confident_cross_entropy(torch.zeros(2, 2), targets, 0.9).exp()
        tensor([2., 1.])
    """
    confidence, labels = targets.detach().softmax(-1).max(-1)
    return torch.where(confidence >= threshold, cross_entropy(logits, labels, reduction="none"), 0)


@dataclass(frozen=True, kw_only=True)
class PseudoLabel(SemiSupervised):
    """Cross-entropy of the model's own labels.

    Attributes:
        weight: of the unlabelled cross-entropy (3 in the paper).
        ramp: linear in the paper.
        threshold: the least probability that a label must have, in [0, 1].
        batch_norm: ``"separate"``; the paper's network has no batch normalisation.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import PseudoLabel
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x_u = Unlabelled((torch.rand(8, 1, 2, 2),))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=x_u)
        >>> list(PseudoLabel().loss(model, batch))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "Pseudo-Label"

    weight: float = 3.0
    ramp: Ramp = Linear(50.0)
    batch_norm: BatchNorm = "separate"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("threshold", self.threshold)

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy of the labels and of the pseudo-labels."""
        (x,) = self._views(model, batch)
        passes = self._passes(model, batch, trained=[x])
        (logits,) = passes.trained
        return self._terms(batch, passes.labelled, confident_cross_entropy(logits, logits, self.threshold))
