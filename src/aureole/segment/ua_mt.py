"""UA-MT: a mean teacher that is heard where it is certain.

    p_t = softmax f'(x + noise_t), t = 1..T;    u = entropy(mean_t p_t);    m = [u < (0.75 + 0.25 ramp) ln 2]
    l = sum m d / (2 sum m + 1e-16),    d = (softmax f(x) - softmax f'(x + noise))^2 summed over classes

ln 2 is the largest entropy of two classes; the published code keeps it for more, and the 2 in the denominator with it,
and so do we. The threshold's ramp runs over the whole training. Yu et al. 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.ramps import Ramp, Sigmoid
from aureole.segment.base import Step
from aureole.segment.entropy import entropy
from aureole.segment.mean_teacher import Taught


@dataclass(frozen=True, kw_only=True)
class UAMT(Taught):
    """Consistency with a teacher where several noisy passes of it agree.

    Attributes:
        num_passes: of the teacher, from which its uncertainty comes.
        threshold: how the certainty that is asked for falls with the epochs: over all of them.

    Example:
        >>> from aureole.segment import UAMT
        >>> UAMT().num_passes
        8

    Source: Yu et al. 2019.
    """

    title: ClassVar[str] = "UA-MT"

    num_passes: int = 8
    threshold: Ramp = Sigmoid(200.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_passes < 1:
            raise InputError(f"num_passes must be at least 1; got {self.num_passes}")

    def _terms(self, step: Step) -> dict[str, Tensor]:
        streams, x = self._streams(step), step.unlabelled
        student = step.outputs.logits[step.num_labelled :].softmax(1)
        target = self._teach(step, x, streams.fork(0)).softmax(1)
        passes = [self._teach(step, x, streams.fork(1 + t)).softmax(1) for t in range(self.num_passes)]
        uncertainty = entropy(torch.stack(passes).mean(0))
        certain = uncertainty < (0.75 + 0.25 * self.threshold(step.batch.epoch)) * math.log(2)
        distance = (student - target).square().sum(1)
        return {"consistency": (certain * distance).sum() / (2 * certain.sum() + 1e-16)}
