"""URPC: the levels of a decoder are to agree, where they are certain.

    pbar = mean_s p_s over the main head and three coarser ones, all of the input's size
    v_s  = KL(pbar || p_s) at each position
    l_s  = mean (pbar - p_s)^2 e^(-v_s) / (mean e^(-v_s) + 1e-8) + mean v_s,    l = mean_s l_s, on unlabelled images
    L    = mean_s (CE_s + Dice_s) / 2 on labelled images + weight * ramp * l

pbar gets its gradient too. In training the coarser heads see disturbed maps. Luo et al. 2021, as in SSL4MIS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.errors import InputError
from aureole.models.segmentation import SegmenterOutputs
from aureole.segment.base import Segmentation, Step


def needed_outputs(outputs: SegmenterOutputs, method: str, networks: str) -> list[Tensor]:
    """Return all logits that a network gives, the main ones first.

    Raises:
        InputError: it gives no others than the main ones.
    """
    if not outputs.auxiliary:
        raise InputError(f"{method} needs a network with several outputs: choose {networks}")
    return [outputs.logits, *outputs.auxiliary]


@dataclass(frozen=True, kw_only=True)
class URPC(Segmentation):
    """Consistency of the decoder's levels.

    Attributes:
        cross_entropy: half of the labelled loss.
        smooth: 1e-5 as in the published code.

    Example:
        >>> from aureole.segment import URPC
        >>> URPC().cross_entropy
        0.5

    Source: Luo et al. 2021.
    """

    title: ClassVar[str] = "URPC"

    cross_entropy: float = 0.5
    smooth: float = 1e-5

    def _labelled(self, step: Step) -> Float[Tensor, ""]:
        levels = needed_outputs(step.outputs, self.title, "urpc")
        losses = [self._supervised(level[: step.num_labelled], step.batch.y) for level in levels]
        return torch.stack(losses).mean()

    def _terms(self, step: Step) -> dict[str, Tensor]:
        levels = [level[step.num_labelled :] for level in needed_outputs(step.outputs, self.title, "urpc")]
        probabilities = torch.stack([level.softmax(1) for level in levels])
        logarithms = torch.stack([level.log_softmax(1) for level in levels])
        mean = probabilities.mean(0)
        v = (mean * (mean.clamp_min(torch.finfo(mean.dtype).tiny).log() - logarithms)).sum(2)
        certain = torch.exp(-v)
        squared = (mean - probabilities).square() * certain[:, :, None]
        axes = tuple(range(1, squared.ndim))
        part = squared.mean(axes) / (certain.mean(axes[:-1]) + 1e-8) + v.mean(axes[:-1])
        return {"consistency": part.mean()}
