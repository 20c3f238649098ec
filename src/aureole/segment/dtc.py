"""DTC: a mask and its signed distances, which two heads predict, are to say the same.

    l = mean (sigmoid(-1500 z) - p)^2,    z = tanh output, p = softmax, of each class but the background, on all images
    L = Dice + 0.3 mean (z - sdf(y))^2 on labelled images + weight * ramp * l

sigmoid(-1500 z) is the mask that the distances describe: 1 inside, where they are negative. Both heads get the gradient
of l. The published code is for one class of foreground; several are averaged here. Luo et al. 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core import checks
from aureole.segment.base import Segmentation, Step
from aureole.segment.signed_distance import needed_distances, signed_distances


@dataclass(frozen=True, kw_only=True)
class WithDistances(Segmentation):
    """A method whose network also predicts signed distances, which labelled images teach it.

    Attributes:
        distance_weight: of their squared error.
        smooth: 1e-5 as in the published codes.
    """

    distance_weight: float = 0.3
    smooth: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_weight("distance_weight", self.distance_weight)

    def _labelled(self, step: Step) -> Float[Tensor, ""]:
        z = needed_distances(step.outputs, self.title)[: step.num_labelled]
        target = signed_distances(step.batch.y, z.shape[1] + 1).to(z)
        return super()._labelled(step) + self.distance_weight * (z - target).square().mean()


@dataclass(frozen=True, kw_only=True)
class DTC(WithDistances):
    """Consistency of the two tasks.

    Attributes:
        steepness: of the smooth step from distances to a mask.

    Example:
        >>> from aureole.segment import DTC
        >>> DTC().steepness
        1500.0

    Source: Luo et al. 2021.
    """

    title: ClassVar[str] = "DTC"

    steepness: float = 1500.0

    def _terms(self, step: Step) -> dict[str, Tensor]:
        z = needed_distances(step.outputs, self.title)
        mask = torch.sigmoid(-self.steepness * z)
        return {"consistency": (mask - step.outputs.logits.softmax(1)[:, 1:]).square().mean()}
