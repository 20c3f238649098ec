"""MC-Net: decoders of different kinds are to agree with one another's sharpened predictions.

    s(p) = p^(1/T) / (p^(1/T) + (1 - p)^(1/T)), of each class by itself
    l = sum_{i != j} mean (p_i - s(p_j))^2 on all images
    L = labelled_weight * sum_i Dice_i + weight * ramp * l

The sharpened predictions get their gradient too, and those of more than two classes need not sum to 1. The Dice loss of
the published 2-D code lacks the factor 2 (the same minimum, half the gradient); here it has it. Wu et al. 2021.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core import checks
from aureole.segment.base import Segmentation, Step
from aureole.segment.urpc import needed_outputs


@dataclass(frozen=True, kw_only=True)
class MCNet(Segmentation):
    """Mutual consistency of two or three decoders.

    Attributes:
        labelled_weight: of the sum of the decoders' Dice losses: 1 on ACDC, 0.5 on the left atrium.
        temperature: of the sharpening.

    Example:
        >>> from aureole.segment import MCNet
        >>> MCNet().temperature
        0.1

    Source: MC-Net (Wu et al. 2021), and with three decoders MC-Net+ (Wu et al. 2022).
    """

    title: ClassVar[str] = "MC-Net"

    labelled_weight: float = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_weight("labelled_weight", self.labelled_weight)
        checks.check_positive("temperature", self.temperature)

    def _labelled(self, step: Step) -> Float[Tensor, ""]:
        outputs = needed_outputs(step.outputs, self.title, "mcnet or mcnet-plus")
        losses = [self._supervised(logits[: step.num_labelled], step.batch.y) for logits in outputs]
        return self.labelled_weight * torch.stack(losses).sum()

    def _terms(self, step: Step) -> dict[str, Tensor]:
        found = [logits.softmax(1) for logits in needed_outputs(step.outputs, self.title, "mcnet or mcnet-plus")]
        pairs = itertools.permutations(found, 2)
        losses = [(own - sharpened(other, self.temperature)).square().mean() for own, other in pairs]
        return {"consistency": torch.stack(losses).sum()}


def sharpened(p: Float[Tensor, "*shape"], temperature: float) -> Float[Tensor, "*shape"]:
    """Return each probability pushed to 0 or 1.

    The powers are taken of the odds, so that neither they nor their gradients overflow or vanish to NaN.

    Args:
        p: probabilities, each against its complement.
        temperature: positive; 1 leaves them as they are.

    Example:
        >>> from aureole.segment.mc_net import sharpened
        >>> sharpened(torch.tensor([0.5, 0.6]), 0.5)
        tensor([0.5000, 0.6923])
    """
    tiny = torch.finfo(p.dtype).eps
    return torch.sigmoid(p.clamp(tiny, 1 - tiny).logit() / temperature)
