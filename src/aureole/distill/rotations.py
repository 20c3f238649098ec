"""What the methods that learn from rotated images share: four views of each image, and one pass for all of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core import checks
from aureole.core.errors import InputError
from aureole.core.method import Batch, Terms
from aureole.core.taps import Features, Taps
from aureole.distill.base import Distillation, FeatureLoss, Pair, _pair

#: Quarter turns of each image, none among them.
ROTATIONS = 4


def rotated(x: Float[Tensor, "batch *event"]) -> Float[Tensor, "4 batch *event"]:
    """Return images turned anticlockwise by 0, 90, 180 and 270 degrees.

    Args:
        x: square images, shape (batch, channels, size, size).

    Raises:
        InputError: they are not square images.

    Example:
        >>> from aureole.distill.rotations import rotated
        >>> rotated(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))[1]
        tensor([[[[2., 4.],
                  [1., 3.]]]])
    """
    _check_square(x)
    return torch.stack([x.rot90(turns, (2, 3)) for turns in range(ROTATIONS)])


def joint_labels(y: Int[Tensor, " batch"]) -> Int[Tensor, "4 batch"]:
    """Return one label for class and rotation, 4y + r, for the images of :func:`rotated`.

    Example:
        >>> from aureole.distill.rotations import joint_labels
        >>> joint_labels(torch.tensor([0, 2])).tolist()
        [[0, 8], [1, 9], [2, 10], [3, 11]]

    Source: Yang et al. 2021 (HSAKD), section 3.1.
    """
    return ROTATIONS * y + torch.arange(ROTATIONS, device=y.device, dtype=y.dtype)[:, None]


def _first(features: Features, count: int) -> Features:
    """Return the features of the first images, which are the upright ones."""
    logits, maps, pooled, before_relu = features
    return Features(
        logits[:count], tuple(m[:count] for m in maps), pooled[:count], tuple(m[:count] for m in before_relu)
    )


def _check_square(x: Tensor) -> None:
    if x.ndim != 4 or x.shape[2] != x.shape[3]:
        raise InputError(
            f"rotations need square images, shape (batch, channels, size, size); got {tuple(x.shape)}: crop or pad them"
        )


@dataclass(frozen=True, kw_only=True)
class Rotating(Distillation):
    """A method for which both networks look at four rotations of each image, in one pass of 4 x batch images.

    Features come rotation after rotation: the first ``batch`` rows are of the upright images. In the warm-up the
    student does not run. Adversarial images are those of upright ones.

    Attributes:
        heads: the class of the loss between features, which holds the method's learned heads.
    """

    warm_up_student: ClassVar[bool] = False
    heads: ClassVar[type[FeatureLoss]]

    def pair(
        self,
        student: nn.Module,
        teacher: nn.Module,
        x: Float[Tensor, "batch *event"],
        *,
        student_taps: Taps | None = None,
        teacher_taps: Taps | None = None,
        num_examples: int | None = None,
    ) -> Pair:
        """Return the teacher and the heads of both networks; see :meth:`Distillation.pair`.

        Raises:
            InputError: the images are not square, or as there.
        """
        _check_square(x)
        return super().pair(
            student, teacher, x, student_taps=student_taps, teacher_taps=teacher_taps, num_examples=num_examples
        )

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the weighted losses of one batch, or in the warm-up the loss of the teacher's heads."""
        pair = _pair(modules, self.title)
        if not isinstance(pair.criterion, self.heads):
            raise InputError(f"{self.title} needs its own heads: pass what its pair(student, teacher, x) returned")
        checks.check_labels(batch.y, batch.x)
        x = rotated(batch.x).flatten(0, 1)
        teacher = pair.teacher_features(x)
        if self._warms_up(batch):
            return pair.criterion.warm_up(teacher, teacher, batch)  # nothing of the student is looked at
        student = pair.student_features(model, x)
        terms, count = self._terms(student, teacher, batch, pair), len(batch)
        terms.update(self._adversarial_terms(model, _first(student, count), _first(teacher, count), batch, pair))
        return terms

    @abstractmethod
    def _terms(self, student: Features, teacher: Features, batch: Batch, pair: Pair) -> Terms:
        """Return the weighted losses from features of all rotations."""
