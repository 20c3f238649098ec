"""VID: the student's maps are to hold as much information about the teacher's as they can.

    L = CE(f_S(x), y) + sum_k mean [(mu_k(F_S^k) - F_T^k)^2 / s_k + log s_k] / 2,    s_k = softplus(rho_k) + 1e-5

A lower bound of the mutual information, with a Gaussian: mu_k are three convolutions 1 x 1 with ReLU between, rho_k is
one number a channel of the teacher. Both learn. F^k are the maps behind stage k, all but the stem's; the mean is over
all values. The larger of two maps is average-pooled to the smaller. The loss may be negative. Ahn et al. 2019;
weight and layers of RepDistiller's scripts, whose softplus is log(1 + exp(rho)): ours does not overflow.
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
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import full_precision, head_dtype, map_pairs, pool_to_common

_LEAST = 1e-5


class Posterior(nn.Module):
    """What a student's map says of its teacher's: a mean for each value, and a variance for each channel.

    Args:
        student_channels: of the student's map.
        teacher_channels: of the teacher's.
        initial_variance: more than 1e-5.

    Example:
        >>> from aureole.distill.vid import Posterior
        >>> Posterior(2, 3).variance
        tensor([5.0000, 5.0000, 5.0000], grad_fn=<AddBackward0>)
    """

    def __init__(self, student_channels: int, teacher_channels: int, initial_variance: float = 5.0) -> None:
        super().__init__()
        _check(initial_variance)
        width = teacher_channels
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
        )
        start = initial_variance - _LEAST
        self.rho = nn.Parameter(torch.full((width,), start + math.log(-math.expm1(-start))))

    @property
    def variance(self) -> Float[Tensor, " channels"]:
        """The variance of each of the teacher's channels: softplus(rho) + 1e-5."""
        return F.softplus(full_precision(self.rho)) + _LEAST

    def forward(
        self,
        student: Float[Tensor, "batch student_channels height width"],
        teacher: Float[Tensor, "batch teacher_channels height width"],
    ) -> Float[Tensor, ""]:
        """Return the mean negative log-likelihood of the teacher's values, without its constant."""
        mean, variance = full_precision(self.mean(student.to(self.rho.dtype))), self.variance[:, None, None]
        return 0.5 * ((mean - teacher).pow(2) / variance + variance.log()).mean()


class VIDLoss(FeatureLoss):
    """Negative log-likelihood of the teacher's maps under what the student's say of them, summed over the layers.

    Args:
        channels: of the student's and the teacher's map, a pair a layer.
        initial_variance: more than 1e-5.

    Raises:
        InputError: there are not as many maps behind the stem's as pairs.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.vid import VIDLoss
        >>> student = Features(torch.rand(2, 3), (torch.rand(2, 4, 8, 8), torch.rand(2, 4, 4, 4)), torch.rand(2, 4))
        >>> teacher = Features(torch.rand(2, 3), (torch.rand(2, 6, 8, 8), torch.rand(2, 6, 4, 4)), torch.rand(2, 6))
        >>> VIDLoss([(4, 6)])(student, teacher).shape
        torch.Size([])
    """

    def __init__(self, channels: Sequence[tuple[int, int]], initial_variance: float = 5.0) -> None:
        super().__init__()
        self.posteriors = nn.ModuleList(Posterior(*pair, initial_variance) for pair in channels)

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        pairs = map_pairs(student, teacher)
        if len(pairs) != len(self.posteriors):
            raise InputError(
                f"this loss was built for {len(self.posteriors)} maps behind the stem's; got {len(pairs)}: build it"
                " anew for these networks"
            )
        layers = zip(self.posteriors, pairs, strict=True)
        return torch.stack([posterior(*pool_to_common(*pair)) for posterior, pair in layers]).sum()


def _check(initial_variance: float) -> None:
    if not _LEAST < initial_variance < math.inf:
        raise InputError(f"initial_variance must be more than {_LEAST} and finite; got {initial_variance}")


@dataclass(frozen=True, kw_only=True)
class VID(Distillation):
    """Variational information distillation.

    Attributes:
        initial_variance: of the teacher's values given the student's, more than 1e-5.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.vid import VID
        >>> nets = [[nn.Conv2d(1, n, 3), nn.Conv2d(n, n, 1), nn.Flatten(), nn.Linear(4 * n, 3)] for n in (2, 5)]
        >>> student, teacher = (nn.Sequential(*layers) for layers in nets)
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> method, taps = VID(), Taps(maps=("0", "1"))
        >>> pair = method.pair(student, teacher, x, student_taps=taps, teacher_taps=taps)
        >>> list(method.loss(student, Batch(x, y), pair))
        ['labelled', 'features']
    """

    title: ClassVar[str] = "VID"
    needs_maps: ClassVar[bool] = True

    initial_variance: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.initial_variance)

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> VIDLoss:
        channels = [(s.shape[1], t.shape[1]) for s, t in map_pairs(student, teacher)]
        return VIDLoss(channels, self.initial_variance).to(head_dtype(student))
