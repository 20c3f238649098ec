"""FSP: before it sees a label, the student learns how the teacher's features flow from one stage to the next.

    L = sum_k mean (G^S_k - G^T_k)^2,    G_k[a, b] = sum_p F_k[a, p] F_{k+1}[b, p] / P

F_k are the maps from the stem's to the last, p the P pixels; the larger of two neighbours is average-pooled to the
smaller; mean over images and entries. Student and teacher have the same channels. The student learns from L alone for
30 epochs, and from the labels alone afterwards. Yim et al. 2017; RepDistiller's scripts, whose weight
b = 50 is used nowhere. (torchdistill pools by the maximum.)

Departure from the scripts: the student's last layer stays in the mode that the loop gives it; it gets no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.method import Batch, Terms
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import map_pairs, pool_to_common


class FSPLoss(FeatureLoss):
    """Mean squared difference between the flow matrices of neighbouring maps.

    Args:
        student_channels: of the student's maps, from the stem's to the last; at least two.
        teacher_channels: of the teacher's; the same.

    Raises:
        InputError: they differ, or there are fewer than two.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.fsp import FSPLoss
        >>> maps = torch.rand(2, 4, 8, 8), torch.rand(2, 6, 4, 4)
        >>> features = Features(torch.rand(2, 3), maps, torch.rand(2, 6))
        >>> FSPLoss([4, 6], [4, 6])(features, features)
        tensor(0.)
    """

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int]) -> None:
        super().__init__()
        mine, theirs = list(student_channels), list(teacher_channels)
        if mine != theirs or len(mine) < 2:
            raise InputError(
                f"FSP needs two or more maps with the same channels in student and teacher; got {mine} and {theirs}:"
                " choose a student of the teacher's widths, or name other layers with Taps(maps=...)"
            )

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        mine, theirs = zip(*map_pairs(student, teacher, len(student.maps)), strict=True)
        flows = zip(_flows(mine), _flows(theirs), strict=True)
        return torch.stack([F.mse_loss(s, t) for s, t in flows]).sum()

    def warm_up(self, student: Features, teacher: Features, batch: Batch) -> Terms:
        """Return the loss of the stage, ``features``: the same as that of a call, and without the labels."""
        return Terms(features=self(student, teacher, batch))


def _flows(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the matrices (batch, channels, channels) between neighbouring maps."""
    flows = []
    for pair in pairwise(maps):
        a, b = (x.flatten(2) for x in pool_to_common(*pair))
        with torch.autocast(a.device.type, enabled=False):
            flows.append(a @ b.mT / a.shape[2])
    return flows


@dataclass(frozen=True, kw_only=True)
class FSP(Distillation):
    """Flow of solution procedure: a stage before training on the labels.

    Attributes:
        weight: of the same loss beside the labels after its stage; 0 as published.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.fsp import FSP
        >>> make = lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 3))
        >>> student, teacher, taps = make(), make(), Taps(maps=("0", "1"))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> method = FSP()
        >>> pair = method.pair(student, teacher, x, student_taps=taps, teacher_taps=taps)
        >>> [list(method.loss(student, Batch(x, y, epoch=epoch), pair)) for epoch in (0, 30)]
        [['features'], ['labelled']]
    """

    title: ClassVar[str] = "FSP"
    needs_maps: ClassVar[bool] = True

    weight: float = 0.0
    warm_up: int = 30

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> FSPLoss:
        return FSPLoss([x.shape[1] for x in student.maps], [x.shape[1] for x in teacher.maps])
