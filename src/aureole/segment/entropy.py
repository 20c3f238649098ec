"""Entropy minimisation: predictions are to be certain, also where nobody says what they are to be.

    l = mean over positions of -sum_k p_k log(p_k + 1e-6) / ln K,    on labelled and unlabelled images

Grandvalet and Bengio 2005; for segmentation Vu et al. 2019, as in SSL4MIS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from aureole.segment.base import Segmentation, Step


@dataclass(frozen=True, kw_only=True)
class EntropyMinimisation(Segmentation):
    """Low entropy at every position.

    Example:
        >>> from aureole.segment import EntropyMinimisation
        >>> EntropyMinimisation().weight
        0.1

    Source: Vu et al. 2019, as in SSL4MIS.
    """

    title: ClassVar[str] = "Entropy minimisation"

    def _terms(self, step: Step) -> dict[str, Tensor]:
        p = step.outputs.logits.softmax(1)
        return {"entropy": entropy(p).mean() / math.log(p.shape[1])}


def entropy(p: Float[Tensor, "rows classes *positions"]) -> Float[Tensor, "rows *positions"]:
    """Return the entropy at each position, in nats, with the 1e-6 of the published code inside the logarithm."""
    return -(p * (p + 1e-6).log()).sum(1)
