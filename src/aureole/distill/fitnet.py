"""FitNet: a layer in the middle of the student is to predict the teacher's.

    L = CE(f_S(x), y) + 100 mean (r(F_S) - F_T)^2

F_S and F_T are the maps of one stage (the second behind the stem), r is a learned regressor: convolution, batch norm
and ReLU. The mean is over all values. Romero et al. 2015, Eq. 3; weight and regressor of RepDistiller's scripts.

RepDistiller's is one stage: regressor and student learn together, beside the labels. In the paper the hint is a stage
before distillation, with a plain convolution, and KD follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import Regressor, full_precision, head_dtype


class HintLoss(FeatureLoss):
    """Mean squared error between a regression of one of the student's maps and the teacher's.

    Args:
        student_shape: of the student's map, (batch, channels, height, width).
        teacher_shape: of the teacher's map.
        layer: which map, from 0, the stem's.

    Raises:
        InputError: no regressor leads from the one shape to the other.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.fitnet import HintLoss
        >>> student = Features(torch.rand(2, 3), (torch.rand(2, 4, 8, 8),), torch.rand(2, 4))
        >>> teacher = Features(torch.rand(2, 3), (torch.rand(2, 6, 4, 4),), torch.rand(2, 6))
        >>> HintLoss((2, 4, 8, 8), (2, 6, 4, 4), layer=0)(student, teacher).shape
        torch.Size([])
    """

    def __init__(self, student_shape: Sequence[int], teacher_shape: Sequence[int], layer: int = 2) -> None:
        super().__init__()
        self.regressor, self.layer = Regressor(student_shape, teacher_shape), layer

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        mine, theirs = _map(student, self.layer), _map(teacher, self.layer)
        return F.mse_loss(full_precision(self.regressor(mine)), full_precision(theirs.detach()))


def _map(features: Features, layer: int) -> Float[Tensor, "batch channels height width"]:
    if not 0 <= layer < len(features.maps):
        raise InputError(
            f"layer must be the number of a map, from 0 on; got {layer}, and there are {len(features.maps)} maps: name"
            " more layers with Taps(maps=...)"
        )
    return features.maps[layer]


@dataclass(frozen=True, kw_only=True)
class FitNet(Distillation):
    """Hints for thin deep networks.

    Attributes:
        layer: which map is predicted, from 0, the stem's.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.fitnet import FitNet
        >>> student, teacher = (nn.Sequential(nn.Conv2d(1, n, 3), nn.Flatten(), nn.Linear(4 * n, 3)) for n in (2, 5))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> method, taps = FitNet(layer=0), Taps(maps=("0",))
        >>> pair = method.pair(student, teacher, x, student_taps=taps, teacher_taps=taps)
        >>> list(method.loss(student, Batch(x, y), pair))
        ['labelled', 'features']
    """

    title: ClassVar[str] = "FitNet"
    needs_maps: ClassVar[bool] = True

    weight: float = 100.0
    layer: int = 2

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> HintLoss:
        shapes = _map(student, self.layer).shape, _map(teacher, self.layer).shape
        return HintLoss(*shapes, layer=self.layer).to(head_dtype(student))
