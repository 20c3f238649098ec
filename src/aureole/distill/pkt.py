"""PKT: how probable each image is as another's neighbour is to be the same for student and teacher.

    L = CE(f_S(x), y) + 30000 mean_ij p^T_ij log((p^T_ij + 1e-7) / (p^S_ij + 1e-7))
    p_ij = k_ij / sum_j k_ij,    k_ij = (cos(f_i, f_j) + 1) / 2

f are the vectors before the logits; i = j counts. Passalis and Tefas 2018; weight of RepDistiller's
scripts. The mean over all B^2 entries, where the divergence is a sum over j, is why the weight is so large.

Departure from the authors' code: a vector of zeros gets no gradient (theirs, NaN).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import full_precision

_EPSILON = 1e-7


class PKTLoss(FeatureLoss):
    """Divergence between the neighbour probabilities of a teacher and of its student; 0 for a batch of one.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.pkt import PKTLoss
        >>> features = Features(torch.rand(3, 2), (), torch.rand(3, 4))
        >>> PKTLoss()(features, features)
        tensor(0.)
    """

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        mine, theirs = _neighbours(student.pooled), _neighbours(teacher.pooled.detach())
        return (theirs * ((theirs + _EPSILON) / (mine + _EPSILON)).log()).mean()


def _neighbours(x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch batch"]:
    x = full_precision(x)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    x = x * (norm > 0) / (norm + _EPSILON)
    with torch.autocast(x.device.type, enabled=False):
        affinity = (x @ x.mT + 1) / 2
    return affinity / affinity.sum(1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class PKT(Distillation):
    """Probabilistic knowledge transfer.

    Example:
        >>> from aureole.distill.pkt import PKT
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, n), nn.Linear(n, 3)) for n in (2, 5))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> method = PKT()
        >>> list(method.loss(student, Batch(x, y), method.pair(student, teacher, x)))
        ['labelled', 'features']
    """

    title: ClassVar[str] = "PKT"

    weight: float = 30000.0

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> PKTLoss:
        return PKTLoss()
