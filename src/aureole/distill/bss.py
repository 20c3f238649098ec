"""BSS: the student is to agree with the teacher also on images just beyond the teacher's decision boundaries.

    L = CE(f_S(x), y) + r(e) H_T(f_T(x), f_S(x)) + r_a(e) H_T(f_T(x_b), f_S(x_b)),    T = 3
    H_T(t, s) = -sum_c softmax(t / T)_c log softmax(s / T)_c
    r(e) = 1 + 3 (1 - e / E),    r_a(e) = 2 (1 - e / (0.75 E))

with x_b the boundary supporting samples of :mod:`aureole.attacks.bss`, r_a at least 0, and means over x and x_b each.
Base images x are those that teacher and student both classify correctly, at most 64: those with the largest
sum_{c != y} (p_T,c - p_S,c)^2. The target is drawn with the teacher's probabilities. Heo et al. 2019, Eqs. 5 to 10;
constants, E = 80 and the missing factor T^2 from the authors' code. The student runs in training mode on x_b, so that
its running statistics follow; ``student_mode`` offers others. With no base image the term is 0.

The thesis compares with "KD + BSS" and does not give its settings: :meth:`BSS.with_kd` takes KD's weights and
temperature, and the last term above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.attacks.bss import BSSAttack
from aureole.core.errors import InputError, unknown_name
from aureole.core.method import Batch, Terms
from aureole.core.model import frozen, predict
from aureole.core.ramps import Linear
from aureole.core.random import streams_for
from aureole.core.taps import Features
from aureole.distill.base import Distillation, Pair
from aureole.distill.matching import full_precision
from aureole.distill.tald import StudentMode, student_in

Logits = Float[Tensor, "batch classes"]
_STREAM = 11  # of each example, for this term alone


def soft_cross_entropy(student: Logits, teacher: Logits, temperature: float) -> Float[Tensor, ""]:
    """Return -sum_c softmax(teacher / T)_c log softmax(student / T)_c, mean over the batch; the teacher is a constant.

    Example:
        >>> from aureole.distill.bss import soft_cross_entropy
        >>> soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[5.0, 1.0]]), 3.0).exp()
        tensor(2.)
    """
    target = (full_precision(teacher.detach()) / temperature).softmax(-1)
    return -(target * (full_precision(student) / temperature).log_softmax(-1)).sum(-1).mean()


def base_images(student: Logits, teacher: Logits, y: Int[Tensor, " batch"], most: int) -> Int[Tensor, " rows"]:
    """Return the places of the images that both classify correctly; where there are more, of the most different.

    Args:
        student: logits.
        teacher: logits.
        y: labels.
        most: images that are kept: those with the largest sum_{c != y} (p_T,c - p_S,c)^2.

    Example:
        >>> from aureole.distill.bss import base_images
        >>> teacher = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
        >>> base_images(teacher / 2, teacher, torch.tensor([0, 1, 1]), 64).sort().values
        tensor([0, 2])
    """
    y = y.long()
    both = (student.argmax(-1) == y) & (teacher.argmax(-1) == y)
    gap = (teacher.softmax(-1) - student.softmax(-1)).square().scatter(1, y[:, None], 0.0).sum(-1)
    rows = gap.masked_fill(~both, -1.0).topk(min(most, len(y))).indices
    return rows[both[rows]]


@dataclass(frozen=True, kw_only=True)
class Supporting:
    """The term at boundary supporting samples, unweighted, for any training loop.

    Attributes:
        attack: how the samples are found on the teacher. The step is the authors' 0.3 in images of [0, 1], of which
            CIFAR's standard deviation is a quarter.
        temperature: of the soft cross-entropy, positive.
        max_images: most base images of a batch.
        student_mode: of the pass over samples, as in :class:`~aureole.distill.tald.TALD`.

    Example:
        >>> from aureole.distill.bss import Supporting
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
        >>> x = torch.rand(5, 1, 2, 2)
        >>> bool(Supporting()(student, teacher, Batch(x, teacher(x).argmax(-1))) >= 0)
        True
    """

    attack: BSSAttack = BSSAttack(step_size=0.08)
    temperature: float = 3.0
    max_images: int = 64
    student_mode: StudentMode = "train"

    def __post_init__(self) -> None:
        if not isinstance(self.attack, BSSAttack):
            raise InputError(f"attack must be a BSSAttack; got {self.attack!r}")
        if not 0 < self.temperature < math.inf or self.max_images < 1:
            raise InputError(
                f"temperature must be positive and max_images at least 1; got {self.temperature}, {self.max_images}"
            )
        if self.student_mode not in get_args(StudentMode):
            raise unknown_name("student_mode", str(self.student_mode), get_args(StudentMode))

    def __call__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        batch: Batch,
        *,
        student_logits: Logits | None = None,
        teacher_logits: Logits | None = None,
    ) -> Float[Tensor, ""]:
        """Return the soft cross-entropy at the samples, with its gradient to the student's parameters.

        Args:
            student: maps images to logits.
            teacher: maps images to logits; in evaluation mode here, and left as it was.
            batch: images in the bounds of the attack's ball, and labels.
            student_logits: of the images, where they are at hand.
            teacher_logits: of the images, where they are at hand.
        """
        with torch.no_grad(), frozen(teacher):
            if student_logits is None:
                with student_in(student, "batch_statistics"):
                    student_logits = predict(student, batch.x)
            teacher_logits = predict(teacher, batch.x) if teacher_logits is None else teacher_logits
        rows = base_images(student_logits, teacher_logits, batch.y, self.max_images)
        if not len(rows):
            return teacher_logits.new_zeros(())
        streams = streams_for(batch.x, batch.streams).fork(_STREAM).select(rows)
        x_adv = self.attack.cross(teacher, batch.x[rows], generator=streams).x_adv
        with torch.no_grad(), frozen(teacher):
            wanted = predict(teacher, x_adv)
        with student_in(student, self.student_mode):
            return soft_cross_entropy(predict(student, x_adv), wanted, self.temperature)


@dataclass(frozen=True, kw_only=True)
class BSS(Distillation):
    """Distillation with boundary supporting samples (Heo et al. 2019).

    Attributes:
        kd_weight: of the distillation at the end; in the variant "code" it is four times that at the start.
        weight: of the samples at the start; 0 from three quarters of the epochs on.
        num_epochs: epochs of the run (E).
        supporting: the term at the samples.
        variant: ``"code"`` distils as above; ``"kd"`` as KD does, with a constant weight and the factor T^2.

    Example:
        >>> from aureole.distill.bss import BSS
        >>> student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
        >>> x = torch.rand(2, 1, 2, 2)
        >>> list(BSS().loss(student, Batch(x, torch.tensor([0, 2]), epoch=0), BSS().pair(student, teacher, x)))
        ['labelled', 'distilled', 'supporting']
    """

    title: ClassVar[str] = "BSS"

    kd_weight: float = 1.0
    weight: float = 2.0
    temperature: float = 3.0
    num_epochs: int = 80
    supporting: Supporting = Supporting()
    variant: Literal["code", "kd"] = "code"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_epochs < 1:
            raise InputError(f"num_epochs must be at least 1; got {self.num_epochs}")
        if self.variant not in ("code", "kd"):
            raise unknown_name("variant", str(self.variant), ("code", "kd"))

    @classmethod
    def with_kd(cls, num_epochs: int = 240) -> BSS:
        """Return "KD + BSS" of thesis section 7.4: KD as RepDistiller has it, and the samples."""
        return cls(label_weight=0.1, kd_weight=0.9, temperature=4.0, num_epochs=num_epochs, variant="kd")

    def _terms(self, student: Features, teacher: Features, batch: Batch, pair: Pair) -> Terms:
        terms = super()._terms(student, teacher, batch, pair)
        if self.variant == "code" and self.kd_weight:
            factor = self.kd_weight * (4 - 3 * Linear(float(self.num_epochs))(batch.epoch))
            terms["distilled"] = factor * soft_cross_entropy(student.logits, teacher.logits, self.temperature)
        return terms

    def _adversarial_terms(
        self, model: nn.Module, student: Features, teacher: Features, batch: Batch, pair: Pair
    ) -> Terms:
        terms = super()._adversarial_terms(model, student, teacher, batch, pair)
        factor = self.weight * (1 - Linear(0.75 * self.num_epochs)(batch.epoch))
        if factor:
            logits = {"student_logits": student.logits.detach(), "teacher_logits": teacher.logits}
            terms["supporting"] = factor * self.supporting(model, pair.teacher, batch, **logits)
        return terms
