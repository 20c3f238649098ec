"""CC: the student is to err on neighbours in the batch in unrelated ways.

    L = CE(f_S(x), y) + 0.02 mean_i <d_i, d_{i+1}>,    d_i = |e_S(h_S(x_i)) - e_T(h_T(x_i))|

h is what the last layer reads; e_S and e_T are learned linear maps to 128 numbers. Peng et al. 2019; loss and weight of
RepDistiller's scripts, whose author had the loss from the paper's.

It is not the paper's loss (a kernel's correlations of all pairs of images). The value depends on the order of the
batch. The teacher's embedding learns too, so that both may collapse to a constant with loss 0: the small weight keeps
the student from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.method import Batch
from aureole.core.taps import Features
from aureole.distill.base import Distillation, FeatureLoss
from aureole.distill.matching import full_precision, head_dtype


class CorrelationLoss(FeatureLoss):
    """Mean inner product of the differences of consecutive images; the embeddings of both networks learn.

    Args:
        student_size: numbers in the student's vector before the logits.
        teacher_size: numbers in the teacher's.
        size: numbers of the embedding.

    Raises:
        InputError: on a batch of one, which has no neighbours.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.correlation import CorrelationLoss
        >>> student = Features(torch.rand(2, 3), (), torch.rand(2, 4))
        >>> teacher = Features(torch.rand(2, 3), (), torch.rand(2, 6))
        >>> CorrelationLoss(4, 6)(student, teacher).shape
        torch.Size([])
    """

    def __init__(self, student_size: int, teacher_size: int, size: int = 128) -> None:
        super().__init__()
        self.student_embedding, self.teacher_embedding = nn.Linear(student_size, size), nn.Linear(teacher_size, size)

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        if len(student.pooled) < 2:
            raise InputError(
                f"CC compares each image with the next, so a batch needs at least two; got {len(student.pooled)}: drop"
                " the last, incomplete batch"
            )
        mine = _embedded(student.pooled, self.student_embedding)
        difference = (mine - _embedded(teacher.pooled.detach(), self.teacher_embedding)).abs()
        return (difference[:-1] * difference[1:]).sum(1).mean()


def _embedded(x: Float[Tensor, "batch features"], embedding: nn.Linear) -> Float[Tensor, "batch size"]:
    return full_precision(embedding(x.to(embedding.weight.dtype)))


@dataclass(frozen=True, kw_only=True)
class CC(Distillation):
    """Correlation congruence, as the published scripts have it.

    Attributes:
        size: numbers of the embedding, positive.

    Example:
        >>> from aureole.distill.correlation import CC
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> method = CC()
        >>> list(method.loss(student, Batch(x, y), method.pair(student, teacher, x)))
        ['labelled', 'features']
    """

    title: ClassVar[str] = "CC"

    weight: float = 0.02
    size: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise InputError(f"size must be at least 1; got {self.size}")

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> CorrelationLoss:
        sizes = student.pooled.shape[1], teacher.pooled.shape[1]
        return CorrelationLoss(*sizes, size=self.size).to(head_dtype(student))
