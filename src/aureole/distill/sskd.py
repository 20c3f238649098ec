"""SSKD: the student is to find, like its teacher, which upright image a rotated one comes from.

    L = 0.1 CE(f_S(x), y) + 0.9 KD_4(x) + 2.7 KD_4(x') + 10 tau^2 mean KL(softmax(A_T / tau) || softmax(A_S / tau))
    A_ij = cos(g(h(x'_i)), g(h(x_j))),    tau = 1/2

x are the upright images of a batch and x' their turns by 90, 180 and 270 degrees; h is what the last layer reads, and g
a head of each network: linear, ReLU, linear, all of h's size. KD_4 is KD's divergence at T = 4. Of the rows x'_i, each
divergence keeps those that the teacher gets right, and of the wrong ones a share (all for KD, 3/4 for A) with the
smallest rank of the truth: y for KD, the own upright image for A.

In the first 60 epochs (``warm_up``) the teacher's head alone is trained, with CE(A_T, own upright image); the rest of
the teacher is a constant, and its head too from then on. Xu et al. 2020; weights of the authors' code, and for
``SSKD.imagenet`` torchdistill's.

Departures from the authors' code: the loader has flipped and cropped an image before it is rotated, once for all four
(there each rotation is cropped on its own); the learning rate is constant in the warm-up (there it drops by 10 after
epochs 30 and 45); of rows with the same rank the earlier image's is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from aureole.core.errors import InputError
from aureole.core.method import Batch, Terms
from aureole.core.taps import Features
from aureole.distill.base import FeatureLoss, Pair, softened_kl
from aureole.distill.matching import full_precision, head_dtype, unit_rows
from aureole.distill.rotations import ROTATIONS, Rotating


def trusted(scores: Float[Tensor, "rows classes"], truth: Int[Tensor, " rows"], keep: float) -> Bool[Tensor, " rows"]:
    """Return which rows to learn from: all that a teacher gets right, and the least wrong of the others.

    Args:
        scores: of the teacher.
        truth: the right class of each row.
        keep: share of the wrong rows, in [0, 1], rounded down to whole rows; those where fewest classes score higher
            than the truth, the earlier row first.

    Example:
        >>> from aureole.distill.sskd import trusted
        >>> trusted(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 1.0, 2.0]]), torch.tensor([0, 1, 1]), 0.5)
        tensor([ True,  True, False])

    Source: Xu et al. 2020, section 3.3.
    """
    rank = (scores > scores.gather(1, truth[:, None])).sum(1)
    wrong = (rank > 0).sum()
    kept = len(rank) - wrong + (keep * wrong + 1e-3).long()  # 0.7 * 10 is less than 7 in float32
    order = rank.argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)) < kept


def trusted_kl(
    student: Float[Tensor, "rows classes"],
    teacher: Float[Tensor, "rows classes"],
    rows: Bool[Tensor, " rows"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the chosen rows; 0 where there are none.

    Example:
        >>> from aureole.distill.sskd import trusted_kl
        >>> student, teacher = torch.tensor([[1.0, 2.0], [5.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 5.0]])
        >>> trusted_kl(student, teacher, torch.tensor([True, False]), 4.0)
        tensor(0.)
    """
    student, teacher = full_precision(student), full_precision(teacher.detach())
    log_q, log_p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    values = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    return values.where(rows, 0.0).sum() / rows.sum().clamp_min(1) * temperature**2


class RotationLoss(FeatureLoss):
    """Divergence between a teacher's and a student's similarities of rotated and upright images, with both heads.

    It takes features of four rotations of each image, as :func:`~aureole.distill.rotations.rotated` orders them.

    Args:
        student_size: numbers in the student's vector before the logits.
        teacher_size: numbers in the teacher's.
        temperature: of the similarities, positive.
        keep: share of the rows that the teacher gets wrong, in [0, 1].

    Raises:
        InputError: the number of rows is no multiple of four.

    Example:
        >>> from aureole.core.taps import Features
        >>> from aureole.distill.sskd import RotationLoss
        >>> student = Features(torch.rand(8, 3), (), torch.rand(8, 4))
        >>> teacher = Features(torch.rand(8, 3), (), torch.rand(8, 6))
        >>> RotationLoss(4, 6)(student, teacher).shape
        torch.Size([])
    """

    def __init__(self, student_size: int, teacher_size: int, temperature: float = 0.5, keep: float = 0.75) -> None:
        super().__init__()
        self.student_head, self.teacher_head = _head(student_size), _head(teacher_size)
        self.temperature, self.keep = temperature, keep

    def forward(self, student: Features, teacher: Features, batch: Batch | None = None) -> Float[Tensor, ""]:
        with torch.no_grad():
            wanted = _similarities(teacher, self.teacher_head)
        rows = trusted(wanted, _own_image(wanted), self.keep)
        return trusted_kl(_similarities(student, self.student_head), wanted, rows, self.temperature)

    def warm_up(self, student: Features, teacher: Features, batch: Batch) -> Terms:
        """Return the loss of the teacher's head, ``contrast``: CE of the similarities with the own upright image."""
        found = _similarities(teacher, self.teacher_head)
        return Terms(contrast=F.cross_entropy(found, _own_image(found)))


def _head(size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))


def _similarities(features: Features, head: nn.Sequential) -> Float[Tensor, "rows batch"]:
    """Return the cosines of each rotated image, image after image, with each upright one."""
    if len(features.pooled) % ROTATIONS:
        raise InputError(
            f"expected features of {ROTATIONS} rotations of each image; got {len(features.pooled)} rows: run the"
            " networks on rotated(x).flatten(0, 1)"
        )
    vectors = head(features.pooled.to(next(head.parameters()).dtype))
    unit = unit_rows(full_precision(vectors))
    with torch.autocast(unit.device.type, enabled=False):
        return _rotated_rows(unit) @ unit[: len(unit) // ROTATIONS].mT


def _rotated_rows(x: Float[Tensor, "all size"]) -> Float[Tensor, "rows size"]:
    """Return the rows of the turned images, image after image: no rotation goes first where ranks are equal."""
    return x.unflatten(0, (ROTATIONS, -1))[1:].transpose(0, 1).flatten(0, 1)


def _own_image(similarities: Float[Tensor, "rows batch"]) -> Int[Tensor, " rows"]:
    return torch.arange(similarities.shape[1], device=similarities.device).repeat_interleave(ROTATIONS - 1)


@dataclass(frozen=True, kw_only=True)
class SSKD(Rotating):
    """Knowledge distillation with self-supervision.

    Attributes:
        rotated_weight: of the divergence between the softened predictions of rotated images, at least 0.
        rotated_keep: share of the rotated images that the teacher gets wrong which that divergence keeps, in [0, 1].
        similarity_temperature: of the similarities, positive.
        similarity_keep: share of the rows that the teacher gets wrong which their divergence keeps, in [0, 1].

    Example:
        >>> from aureole.distill.sskd import SSKD
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> method = SSKD()
        >>> pair = method.pair(student, teacher, x)
        >>> list(method.loss(student, Batch(x, y, epoch=0), pair))
        ['contrast']
        >>> list(method.loss(student, Batch(x, y, epoch=60), pair))
        ['labelled', 'distilled', 'rotated', 'features']
    """

    title: ClassVar[str] = "SSKD"
    heads: ClassVar[type[FeatureLoss]] = RotationLoss

    label_weight: float = 0.1
    kd_weight: float = 0.9
    weight: float = 10.0
    warm_up: int = 60
    rotated_weight: float = 2.7
    rotated_keep: float = 1.0
    similarity_temperature: float = 0.5
    similarity_keep: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rotated_weight < float("inf"):
            raise InputError(f"rotated_weight must be at least 0 and finite; got {self.rotated_weight}")
        if not 0 < self.similarity_temperature < float("inf"):
            raise InputError(f"similarity_temperature must be positive and finite; got {self.similarity_temperature}")
        for name in ("rotated_keep", "similarity_keep"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1]; got {getattr(self, name)}")

    @classmethod
    def imagenet(cls) -> SSKD:
        """Return torchdistill's settings for ImageNet: a warm-up of 30 epochs, and weight 1 for the labels."""
        return cls(label_weight=1.0, warm_up=30)

    def criterion(self, student: Features, teacher: Features, num_examples: int | None) -> RotationLoss:
        sizes = student.pooled.shape[1], teacher.pooled.shape[1]
        return RotationLoss(*sizes, self.similarity_temperature, self.similarity_keep).to(head_dtype(student))

    def _terms(self, student: Features, teacher: Features, batch: Batch, pair: Pair) -> Terms:
        terms, count = Terms(), len(batch)
        if self.label_weight:
            terms["labelled"] = self.label_weight * F.cross_entropy(student.logits[:count], batch.y)
        if self.kd_weight:
            divergence = softened_kl(student.logits[:count], teacher.logits[:count], self.temperature)
            terms["distilled"] = self.kd_weight * divergence
        if self.rotated_weight:
            mine, theirs = _rotated_rows(student.logits), _rotated_rows(teacher.logits)
            rows = trusted(theirs, batch.y.long().repeat_interleave(ROTATIONS - 1), self.rotated_keep)
            terms["rotated"] = self.rotated_weight * trusted_kl(mine, theirs, rows, self.temperature)
        if self.weight and pair.criterion is not None:
            terms["features"] = self.weight * pair.criterion(student, teacher, batch)
        return terms
