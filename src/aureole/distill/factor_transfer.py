"""FT: the student is to give the factors that an auto-encoder finds in the teacher's last map.

    stage 1:  mean (d(p(F_T)) - F_T)^2
    stage 2:  L = CE(f_S(x), y) + 200 mean |q(t(F_S)) - q(p(F_T))|,    q(f) = a / ||a||,    a = mean_c f_c^2

F_S and F_T are the last maps. p, the paraphraser, and its decoder d learn in stage 1 (30 epochs) and are constants
from then on; t, the translator, learns in stage 2 with the student. p and t give half as many channels as F_T has
(``rate``); both have three convolutions 3 x 3 with a leaky ReLU (0.1) behind each, t with batch norm between. The
larger of two factors is average-pooled to the smaller. Kim et al. 2018; weight, layers and q of RepDistiller's scripts.

``variant="paper"`` has the paper's q(f) = f / ||f||, over the whole factor. (The paper's norm of the difference sums
over the values; the mean is torchdistill's.) The weight 200 belongs to ``"code"``: give the other its own.
``FT.imagenet`` has torchdistill's settings. RepDistiller's first stage has a learning rate of its own, 0.01, for the
residual networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError, unknown_name
from aureole.core.method import Batch, Terms
from aureole.core.taps import Features
from aureole.distill.attention_transfer import attention
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import check_normalizable, full_precision, head_dtype, pool_to_common, unit_rows

Variant = Literal["code", "paper"]


def _stack(widths: tuple[int, ...], kind: type[nn.Module], batch_norm: bool = False) -> nn.Sequential:
    """Return convolutions 3 x 3 that keep the size, each with a leaky ReLU behind."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [
            kind(before, after, 3, padding=1),
            *([nn.BatchNorm2d(after)] if batch_norm else []),
            nn.LeakyReLU(0.1),
        ]
    return nn.Sequential(*layers)


class FactorLoss(FeatureLoss):
    """Distance between the translated map of a student and the paraphrased map of its teacher.

    Args:
        student_channels: of the student's last map.
        teacher_channels: of the teacher's.
        variant: ``"code"``, factors as attention maps, or ``"paper"``, whole factors.
        rate: channels of the factors, as a share of the teacher's.
        batch_norm: whether the translator has batch norm.

    Raises:
        InputError: no channel is left.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.factor_transfer import FactorLoss
        >>> student = Features(torch.rand(2, 3), (torch.rand(2, 4, 4, 4),), torch.rand(2, 4))
        >>> teacher = Features(torch.rand(2, 3), (torch.rand(2, 6, 4, 4),), torch.rand(2, 6))
        >>> FactorLoss(4, 6)(student, teacher).shape
        torch.Size([])
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        variant: Variant = "code",
        rate: float = 0.5,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        _check(variant, rate)
        width = int(teacher_channels * rate)
        if width < 1:
            raise InputError(f"a rate of {rate} leaves none of the teacher's {teacher_channels} channels: raise it")
        self.variant = variant
        self.paraphraser = _stack((teacher_channels, teacher_channels, width, width), nn.Conv2d)
        self.decoder = _stack((width, width, teacher_channels, teacher_channels), nn.ConvTranspose2d)
        self.translator = _stack((student_channels, student_channels, width, width), nn.Conv2d, batch_norm)
        self._batch_norm = batch_norm

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        mine, theirs = _last_map(student), _last_map(teacher)
        if self._batch_norm:
            check_normalizable(mine, self)
        with torch.no_grad():
            wanted = _through(self.paraphraser, theirs)
        s, t = pool_to_common(_through(self.translator, mine), wanted)
        if self.variant == "code":
            return F.l1_loss(attention(s), attention(t))
        return F.l1_loss(unit_rows(s.flatten(1)), unit_rows(t.flatten(1)))

    def warm_up(self, student: Features, teacher: Features, batch: Batch) -> Terms:
        """Return the paraphraser's loss, ``reconstruction``: the mean squared error of its decoder."""
        wanted = _last_map(teacher).detach()
        found = _through(self.decoder, _through(self.paraphraser, wanted))
        return Terms(reconstruction=F.mse_loss(found, full_precision(wanted)))


def _last_map(features: Features) -> Float[Tensor, "batch channels height width"]:
    if not features.maps:
        raise InputError("FT compares the last map of both networks; one gives none: name it with Taps(maps=...)")
    return features.maps[-1]


def _through(module: nn.Sequential, x: Tensor) -> Tensor:
    """Return what a module makes of ``x``, which comes in the module's type, at full precision."""
    return full_precision(module(x.to(next(module.parameters()).dtype)))


def _check(variant: str, rate: float) -> None:
    if variant not in get_args(Variant):
        raise unknown_name("variant", str(variant), get_args(Variant))
    if not 0 < rate < math.inf:
        raise InputError(f"rate must be positive and finite; got {rate}")


@dataclass(frozen=True, kw_only=True)
class FT(Distillation):
    """Factor transfer. Its first stage trains the paraphraser alone; the student learns nothing then.

    Attributes:
        variant: ``"code"`` as the published scripts, or ``"paper"``.
        rate: channels of the factors, as a share of the teacher's; positive.
        batch_norm: whether the translator has batch norm.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.factor_transfer import FT
        >>> student, teacher = (nn.Sequential(nn.Conv2d(1, n, 3), nn.Flatten(), nn.Linear(4 * n, 3)) for n in (2, 5))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> method, taps = FT(), Taps(maps=("0",))
        >>> pair = method.pair(student, teacher, x, student_taps=taps, teacher_taps=taps)
        >>> [list(method.loss(student, Batch(x, y, epoch=epoch), pair)) for epoch in (0, 30)]
        [['reconstruction'], ['labelled', 'features']]
    """

    title: ClassVar[str] = "FT"
    needs_maps: ClassVar[bool] = True
    warm_up_student: ClassVar[bool] = False

    weight: float = 200.0
    warm_up: int = 30
    variant: Variant = "code"
    rate: float = 0.5
    batch_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.variant, self.rate)

    @classmethod
    def imagenet(cls) -> FT:
        """Return torchdistill's settings for ImageNet: whole factors, no batch norm, one epoch for the paraphraser."""
        return cls(weight=1000.0, warm_up=1, variant="paper", batch_norm=False)

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> FactorLoss:
        channels = student.maps[-1].shape[1], teacher.maps[-1].shape[1]
        return FactorLoss(*channels, self.variant, self.rate, self.batch_norm).to(head_dtype(student))
