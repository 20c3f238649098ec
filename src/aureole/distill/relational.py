"""RKD: distances and angles between the student's vectors are to be those between the teacher's.

    L   = CE(f_S(x), y) + 25 L_d + 50 L_a
    L_d = mean_ij  h(d^S_ij - d^T_ij),        d_ij  = ||f_i - f_j|| / mean_{i != j} ||f_i - f_j||
    L_a = mean_ijk h(a^S_ijk - a^T_ijk),      a_ijk = <e_ij, e_ik>,    e_ij = (f_j - f_i) / ||f_j - f_i||

f are the vectors before the logits, h is Huber's loss (smooth L1, beta 1). The means are over all B^2 and B^3 entries,
those of i = j too, which are 0. Park et al. 2019; weights of RepDistiller's scripts.

Departure from the authors' code: distances come from the differences themselves, not from inner products, which cancel
for vectors that lie close; and equal vectors have no direction, with zero gradient (theirs, a gradient times 1e12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import full_precision, unit_rows


class RKDLoss(FeatureLoss):
    """Difference between the relations of a student's vectors and those of its teacher's; memory B^3 + B^2 features.

    Args:
        distance_weight: of the distances between two vectors, at least 0.
        angle_weight: of the angles between three, at least 0.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.relational import RKDLoss
        >>> features = Features(torch.rand(3, 2), (), torch.rand(3, 4))
        >>> RKDLoss()(features, features)
        tensor(0.)
    """

    def __init__(self, distance_weight: float = 25.0, angle_weight: float = 50.0) -> None:
        super().__init__()
        _check(distance_weight, angle_weight)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        if len(student.pooled) < 2:
            raise InputError(
                f"RKD compares pairs of images, so a batch has at least two; got {len(student.pooled)}: drop the last,"
                " incomplete batch"
            )
        mine, theirs = _differences(student.pooled), _differences(teacher.pooled.detach())
        loss = mine.new_zeros(())
        if self.distance_weight:
            loss = loss + self.distance_weight * F.smooth_l1_loss(_distances(mine), _distances(theirs))
        if self.angle_weight:
            loss = loss + self.angle_weight * F.smooth_l1_loss(_angles(mine), _angles(theirs))
        return loss


def _differences(x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch batch features"]:
    """Return f_j - f_i at [i, j]."""
    x = full_precision(x)
    return x[None] - x[:, None]


def _distances(differences: Float[Tensor, "batch batch features"]) -> Float[Tensor, "batch batch"]:
    """Return the distances over their mean; that of two equal vectors counts as 1e-6."""
    distances = differences.pow(2).sum(-1).clamp_min(1e-12).sqrt()
    count = len(distances)
    distances = distances * (1 - torch.eye(count, dtype=distances.dtype, device=distances.device))
    return distances * (count * (count - 1) / distances.sum())


def _angles(differences: Float[Tensor, "batch batch features"]) -> Float[Tensor, "batch batch batch"]:
    """Return the cosines of the angles at i, between j and k, at [i, j, k]."""
    directions = unit_rows(differences.flatten(0, 1)).view_as(differences)
    with torch.autocast(directions.device.type, enabled=False):
        return directions @ directions.mT


def _check(distance_weight: float, angle_weight: float) -> None:
    for name, value in (("distance_weight", distance_weight), ("angle_weight", angle_weight)):
        if not 0 <= value < math.inf:
            raise InputError(f"{name} must be at least 0 and finite; got {value}")


@dataclass(frozen=True, kw_only=True)
class RKD(Distillation):
    """Relational knowledge distillation.

    Attributes:
        distance_weight: of the distances between two images, at least 0.
        angle_weight: of the angles between three, at least 0.

    Example:
        >>> from aureole.distill.relational import RKD
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, n), nn.Linear(n, 3)) for n in (2, 5))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> method = RKD()
        >>> list(method.loss(student, Batch(x, y), method.pair(student, teacher, x)))
        ['labelled', 'features']
    """

    title: ClassVar[str] = "RKD"

    distance_weight: float = 25.0
    angle_weight: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.distance_weight, self.angle_weight)

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> RKDLoss:
        return RKDLoss(self.distance_weight, self.angle_weight)
