"""AB: before it sees a label, the student learns for which images the teacher's neurons are active.

    L = sum_k 2^(k - K) (3 / 1000) / B sum [ 1(t > 0) max(m - s, 0)^2 + 1(t <= 0) max(s + m, 0)^2 ],    k = 1 .. K

t are the teacher's maps before their ReLU, all but the stem's, and s the student's, through a learned connector
(convolution and batch norm; none where the two shapes are equal). m is a margin. The inner sum is over images, channels
and pixels. The student learns from L alone for 30 epochs, and from the labels alone afterwards. Heo, Lee, Yun and Choi
2019 (Knowledge transfer via distillation of activation boundaries); numbers of RepDistiller's scripts, whose
weight b = 1 is used nowhere.

Departure from the scripts: theirs have the student's last layer, and a batch norm that no compared map needs, in
evaluation mode during the stage; ours leaves the student's mode to the loop. Neither gets a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.method import Batch, Terms
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import Regressor, full_precision, head_dtype


class ABLoss(FeatureLoss):
    """Hinge loss between a student's maps before their ReLU, through connectors, and the signs of its teacher's.

    Args:
        student_shapes: of the student's maps before their ReLU, each (batch, channels, height, width).
        teacher_shapes: of the teacher's; equally many.
        margin: that a student's value keeps from 0; positive.

    Raises:
        InputError: there are no maps, their numbers differ, or no connector leads from one shape to the other.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.activation_boundary import ABLoss
        >>> maps = (torch.full((2, 4, 8, 8), -1.5),)
        >>> features = Features(torch.rand(2, 3), (), torch.rand(2, 6), before_relu=maps)
        >>> ABLoss([(2, 4, 8, 8)], [(2, 4, 8, 8)])(features, features)
        tensor(0.)
    """

    def __init__(
        self, student_shapes: Sequence[Sequence[int]], teacher_shapes: Sequence[Sequence[int]], margin: float = 1.0
    ) -> None:
        super().__init__()
        _check_counts(len(student_shapes), len(teacher_shapes))
        _check_margin(margin)
        self.margin = margin
        self.connectors = nn.ModuleList(
            nn.Identity() if tuple(s[1:]) == tuple(t[1:]) else Regressor(s, t, relu=False)
            for s, t in zip(student_shapes, teacher_shapes, strict=True)
        )

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        _check_counts(len(student.before_relu), len(teacher.before_relu), len(self.connectors))
        mapped = [connector(s) for connector, s in zip(self.connectors, student.before_relu, strict=True)]
        layers = [self._layer(s, t.detach()) for s, t in zip(mapped, teacher.before_relu, strict=True)]
        return torch.stack([2.0 ** (k + 1 - len(layers)) * layer for k, layer in enumerate(layers)]).sum()

    def _layer(
        self, s: Float[Tensor, "batch channels height width"], t: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, ""]:
        s = full_precision(s)
        return 3e-3 / len(s) * F.relu(self.margin - torch.where(t > 0, s, -s)).pow(2).sum()

    def warm_up(self, student: Features, teacher: Features, batch: Batch) -> Terms:
        """Return the loss of the stage, ``features``: the same as that of a call, and without the labels."""
        return Terms(features=self(student, teacher, batch))


def _check_counts(student: int, teacher: int, wanted: int | None = None) -> None:
    wanted = student if wanted is None else wanted
    if not student == teacher == wanted or not wanted:
        raise InputError(
            f"AB compares the maps of both networks before their ReLU, {wanted or 'one or more'} of each; got {student}"
            f" and {teacher}: name layers with Taps(before_relu=...)"
        )


def _check_margin(margin: float) -> None:
    if not 0 < margin < math.inf:
        raise InputError(f"margin must be positive and finite; got {margin}")


@dataclass(frozen=True, kw_only=True)
class AB(Distillation):
    """Activation boundaries: a stage before training on the labels.

    Attributes:
        weight: of the same loss beside the labels after its stage; 0 as published.
        margin: that a student's value keeps from 0; positive.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.activation_boundary import AB
        >>> student, teacher = (nn.Sequential(nn.Conv2d(1, n, 3), nn.Flatten(), nn.Linear(4 * n, 3)) for n in (2, 5))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> method, taps = AB(), Taps(before_relu=("0",), maps=("0",))
        >>> pair = method.pair(student, teacher, x, student_taps=taps, teacher_taps=taps)
        >>> [list(method.loss(student, Batch(x, y, epoch=epoch), pair)) for epoch in (0, 30)]
        [['features'], ['labelled']]
    """

    title: ClassVar[str] = "AB"

    weight: float = 0.0
    warm_up: int = 30
    margin: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_margin(self.margin)

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> ABLoss:
        shapes = [[x.shape for x in features.before_relu] for features in (student, teacher)]
        return ABLoss(shapes[0], shapes[1], self.margin).to(head_dtype(student))
