"""NST: the channels of the student's maps are to be distributed over an image as the teacher's are.

    L   = CE(f_S(x), y) + 50 sum_layers MMD^2,
    MMD^2 = mean_ij k(t_i, t_j) + mean_ij k(s_i, s_j) - 2 mean_ij k(s_i, t_j),    k(a, b) = <a, b>^2

s_i and t_j are the channels of the two maps of one image, each of unit length over the pixels; the larger map is
average-pooled to the smaller. All maps but the stem's; mean over the images. Huang and Wang 2017, with the
polynomial kernel (d = 2, c = 0); weight of RepDistiller's scripts.

With S and T the matrices (channels, pixels) of one image, the sums of squared products are Frobenius norms, so

    MMD^2 = || S' S / C_S - T' T / C_T ||^2

over pairs of pixels, which is taken where there are fewer pixels than channels. So no matrix of products has more than
B min(max(C_S, C_T), pixels)^2 entries, and images are taken in parts where that is too many (the parts are computed
again in the backward pass); RepDistiller builds (B, C_S, C_T, pixels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import map_pairs, pool_to_common, unit_rows


class NSTLoss(FeatureLoss):
    """Squared maximum mean discrepancy between the channels of a student's maps and of its teacher's.

    Args:
        max_entries: in one matrix of products, at least 1; images are taken in parts of at most so many, or one by one.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.nst import NSTLoss
        >>> maps = torch.rand(2, 4, 8, 8), torch.rand(2, 6, 4, 4)
        >>> features = Features(torch.rand(2, 3), maps, torch.rand(2, 6))
        >>> NSTLoss()(features, features)
        tensor(0.)
    """

    def __init__(self, max_entries: int = 2**25) -> None:
        super().__init__()
        if max_entries < 1:
            raise InputError(f"max_entries must be at least 1; got {max_entries}")
        self.max_entries = max_entries

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        pairs = [pool_to_common(s, t) for s, t in map_pairs(student, teacher)]
        return torch.stack([self._layer(_channels(s), _channels(t)) for s, t in pairs]).sum()

    def _layer(self, s: Float[Tensor, "batch cs pixels"], t: Float[Tensor, "batch ct pixels"]) -> Float[Tensor, ""]:
        channels = max(s.shape[1], t.shape[1])
        part = max(1, self.max_entries // min(channels, s.shape[2]) ** 2)
        if part >= len(s):
            return _discrepancy(s, t) / len(s)
        parts = zip(s.split(part), t.split(part), strict=True)
        again = [checkpoint(_discrepancy, *p, use_reentrant=False, preserve_rng_state=False) for p in parts]
        return torch.stack(again).sum() / len(s)


def _channels(x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels pixels"]:
    x = x.flatten(2)
    return unit_rows(x.flatten(0, 1)).view_as(x)


def _discrepancy(s: Float[Tensor, "batch cs pixels"], t: Float[Tensor, "batch ct pixels"]) -> Float[Tensor, ""]:
    """Return MMD^2, summed over the images."""
    with torch.autocast(s.device.type, enabled=False):
        if s.shape[2] <= max(s.shape[1], t.shape[1]):
            return (s.mT @ s / s.shape[1] - t.mT @ t / t.shape[1]).pow(2).sum()
        return _kernel(t, t) + _kernel(s, s) - 2 * _kernel(s, t)


def _kernel(a: Float[Tensor, "batch ca pixels"], b: Float[Tensor, "batch cb pixels"]) -> Float[Tensor, ""]:
    """Return the mean kernel of all pairs of channels, summed over the images."""
    return (a @ b.mT).pow(2).mean((1, 2)).sum()


@dataclass(frozen=True, kw_only=True)
class NST(Distillation):
    """Neuron selectivity transfer.

    Example:
        >>> from aureole.core.taps import Taps
        >>> from aureole.distill.nst import NST
        >>> make = lambda n: nn.Sequential(nn.Conv2d(1, n, 1), nn.Conv2d(n, n, 3), nn.Flatten(), nn.Linear(4 * n, 3))
        >>> student, teacher, taps = make(2), make(5), Taps(maps=("0", "1"))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> method = NST()
        >>> pair = method.pair(student, teacher, x, student_taps=taps, teacher_taps=taps)
        >>> list(method.loss(student, Batch(x, y), pair))
        ['labelled', 'features']
    """

    title: ClassVar[str] = "NST"
    needs_maps: ClassVar[bool] = True

    weight: float = 50.0

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> NSTLoss:
        map_pairs(student, teacher)  # the stem's map alone is too few: say so before training
        return NSTLoss()
