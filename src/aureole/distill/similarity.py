"""SP: images that look alike to the teacher are to look alike to the student.

    L = CE(f_S(x), y) + 3000 sum_ij (G_S - G_T)_ij^2 / B^2,    G_ij = <F_i, F_j> / ||<F_i, F_.>||

F_i is the last map of image i as one vector; each row of the B x B similarities has unit length. So the maps of student
and teacher may differ in every size. Tung and Mori 2019, section 3; weight of RepDistiller's scripts, which compare
the last map alone. The products are taken in float32 at least, also under autocast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import full_precision, unit_rows


class SimilarityLoss(FeatureLoss):
    """Mean squared difference between the similarities of all pairs of images; 0 for a batch of one.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.similarity import SimilarityLoss
        >>> features = Features(torch.rand(2, 3), (torch.rand(2, 4, 8, 8),), torch.rand(2, 4))
        >>> SimilarityLoss()(features, features)
        tensor(0.)
    """

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        if not student.maps or not teacher.maps:
            raise InputError("SP compares the last map of both networks; one gives none: name it with Taps(maps=...)")
        return (_similarity(student.maps[-1]) - _similarity(teacher.maps[-1].detach())).pow(2).mean()


def _similarity(x: Float[Tensor, "batch *map"]) -> Float[Tensor, "batch batch"]:
    rows = full_precision(x).flatten(1)
    with torch.autocast(x.device.type, enabled=False):
        return unit_rows(rows @ rows.mT)


@dataclass(frozen=True, kw_only=True)
class SP(Distillation):
    """Similarity-preserving distillation.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.similarity import SP
        >>> student, teacher = (nn.Sequential(nn.Conv2d(1, n, 3), nn.Flatten(), nn.Linear(4 * n, 3)) for n in (2, 5))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> method, taps = SP(), Taps(maps=("0",))
        >>> pair = method.pair(student, teacher, x, student_taps=taps, teacher_taps=taps)
        >>> list(method.loss(student, Batch(x, y), pair))
        ['labelled', 'features']
    """

    title: ClassVar[str] = "SP"
    needs_maps: ClassVar[bool] = True

    weight: float = 3000.0

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> SimilarityLoss:
        return SimilarityLoss()
