"""AT: the student is to look where the teacher looks.

    L = CE(f_S(x), y) + 1000 sum_k mean (Q(F_S^k) - Q(F_T^k))^2,    Q(F) = q / ||q||,    q = mean_c F_c^2

F^k are the maps behind stage k, all but the stem's; Q is a vector over the pixels, the mean over images and pixels.
The larger of two maps is average-pooled to the smaller. Zagoruyko and Komodakis 2017, Eq. 2; weight of RepDistiller's
scripts. ``AT.imagenet`` has torchdistill's: the last two maps.

``variant="paper"`` has ||Q_S - Q_T|| as in Eq. 2, not squared, mean over the images. (The paper sums over the channels;
after division by the norm that is the same.) The weight 1000 belongs to ``"code"``: give the other its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.errors import unknown_name
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import map_pairs, pool_to_common, unit_rows

Variant = Literal["code", "paper"]


def attention(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch pixels"]:
    """Return where a map is large: the mean of its squares over the channels, as a unit vector over the pixels.

    Example:
        >>> from aureole.distill.attention_transfer import attention
        >>> attention(torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]]))
        tensor([[1., 0.]])

    Source: Zagoruyko and Komodakis 2017, section 3.1, with p = 2.
    """
    return unit_rows(x.pow(2).mean(1).flatten(1))


class AttentionLoss(FeatureLoss):
    """Distance between the attention maps of a student and a teacher, summed over the layers.

    Args:
        variant: ``"code"``, mean of squares, or ``"paper"``, mean of the images' Euclidean distances.
        num_maps: how many maps, counted from the last; None takes all but the stem's.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.attention_transfer import AttentionLoss
        >>> features = Features(torch.rand(2, 3), (torch.rand(2, 4, 8, 8), torch.rand(2, 4, 4, 4)), torch.rand(2, 4))
        >>> AttentionLoss()(features, features)
        tensor(0.)
    """

    def __init__(self, variant: Variant = "code", num_maps: int | None = None) -> None:
        super().__init__()
        _check(variant)
        self.variant, self.num_maps = variant, num_maps

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        pairs = [pool_to_common(*pair) for pair in map_pairs(student, teacher, self.num_maps)]
        return torch.stack([self._distance(attention(s) - attention(t)) for s, t in pairs]).sum()

    def _distance(self, difference: Float[Tensor, "batch pixels"]) -> Float[Tensor, ""]:
        if self.variant == "code":
            return difference.pow(2).mean()
        return torch.linalg.vector_norm(difference, dim=1).mean()


def _check(variant: str) -> None:
    if variant not in get_args(Variant):
        raise unknown_name("variant", str(variant), get_args(Variant))


@dataclass(frozen=True, kw_only=True)
class AT(Distillation):
    """Attention transfer.

    Attributes:
        variant: ``"code"`` as the published scripts, or ``"paper"``.
        num_maps: how many maps, counted from the last; None takes all but the stem's.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.attention_transfer import AT
        >>> student, teacher = (nn.Sequential(nn.Conv2d(1, n, 3), nn.Flatten(), nn.Linear(4 * n, 3)) for n in (2, 5))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> method, taps = AT(num_maps=1), Taps(maps=("0",))
        >>> pair = method.pair(student, teacher, x, student_taps=taps, teacher_taps=taps)
        >>> list(method.loss(student, Batch(x, y), pair))
        ['labelled', 'features']
    """

    title: ClassVar[str] = "AT"
    needs_maps: ClassVar[bool] = True

    weight: float = 1000.0
    variant: Variant = "code"
    num_maps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.variant)

    @classmethod
    def imagenet(cls) -> AT:
        """Return torchdistill's settings for ImageNet: the maps of the last two stages."""
        return cls(num_maps=2)

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> AttentionLoss:
        map_pairs(student, teacher, self.num_maps)
        return AttentionLoss(self.variant, self.num_maps)
