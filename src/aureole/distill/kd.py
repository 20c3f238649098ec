"""KD: the student is to match the teacher's softened predictions.

    L = 0.1 CE(f_S(x), y) + 0.9 T^2 KL(softmax(f_T(x) / T) || softmax(f_S(x) / T)),    T = 4

Hinton et al. 2015; weights of RepDistiller's scripts. ``KD.imagenet`` has torchdistill's: T = 1 and one half each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aureole.distill.base import Distillation


@dataclass(frozen=True, kw_only=True)
class KD(Distillation):
    """Knowledge distillation.

    Example:
        >>> from aureole.distill import KD
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> method = KD()
        >>> list(method.loss(student, Batch(x, y), method.pair(student, teacher, x)))
        ['labelled', 'distilled']
    """

    title: ClassVar[str] = "KD"

    label_weight: float = 0.1
    kd_weight: float = 0.9

    @classmethod
    def imagenet(cls) -> KD:
        """Return torchdistill's settings for ImageNet."""
        return cls(label_weight=0.5, kd_weight=0.5, temperature=1.0)
