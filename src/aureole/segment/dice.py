"""The soft Dice distance of two segmentations, as a loss against labels and as what particles maximise.

    "classes"   1/K sum_k [1 - (2 sum p_k q_k + s) / (sum p_k^2 + sum q_k^2 + s)]   (thesis Eq. 6.3, SS-Net in 2-D)
    "joint"     1 - (2 sum p q + s) / (sum p + sum q + s), over all classes together   (SS-Net in 3-D)

with p and q the softmaxes. The sums run over the positions of an image, or of all images together (``scope``), as in
the published code: there a class that is small in one image weighs as much as its positions in the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from aureole.core.errors import InputError, unknown_name
from aureole.core.objectives import Objective

Form = Literal["classes", "joint"]
Scope = Literal["image", "batch"]
Probabilities = Float[Tensor, "rows classes *positions"]


def check_form(form: str) -> None:
    """Raise :class:`~aureole.core.errors.InputError` unless a form is known, with the nearest.

    Example:
        >>> from aureole.segment.dice import check_form
        >>> check_form("joint")
    """
    if form not in get_args(Form):
        raise unknown_name("form", str(form), get_args(Form))


def dice_distance(
    p: Probabilities, q: Probabilities, *, form: Form = "classes", scope: Scope = "image", smooth: float = 1e-10
) -> Float[Tensor, " rows"]:
    """Return the soft Dice distance of each row, 0 for equal hard segmentations and at most 1.

    Args:
        p: probabilities of the classes at each position, shape (rows, classes, *positions).
        q: the same.
        form: see above.
        scope: ``"image"`` for one distance a row; with ``"batch"`` all rows have that of the batch.
        smooth: added to both sides of the fraction, so that a class that is in neither counts as found.

    Example:
        >>> from aureole.segment.dice import dice_distance
        >>> p = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> dice_distance(p, p), dice_distance(p, p.flip(1))
        (tensor([0.]), tensor([1.]))
    """
    p, q = p.flatten(2), q.flatten(2)
    squared = form == "classes"
    overlap = 2 * (p * q).sum(-1)
    total = (p.square() + q.square() if squared else p + q).sum(-1)
    if not squared:
        overlap, total = overlap.sum(1, keepdim=True), total.sum(1, keepdim=True)
    if scope == "batch":
        overlap, total = overlap.sum(0), total.sum(0)
    distance = (1 - (overlap + smooth) / (total + smooth)).mean(-1)
    return distance.expand(len(p)) if scope == "batch" else distance


def dice_loss(
    logits: Float[Tensor, "rows classes *positions"],
    y: Int64[Tensor, "rows *positions"],
    *,
    background: bool = True,
    form: Form = "classes",
    smooth: float = 1e-10,
) -> Float[Tensor, ""]:
    """Return the soft Dice loss against labels, with sums over the batch.

    Args:
        logits: of each position.
        y: class of each position.
        background: whether class 0 counts.
        form: ``"classes"`` or ``"joint"``; see :mod:`aureole.segment.dice`. Of the class 1 of two, ``"joint"`` is the
            loss of SS-Net and MC-Net for the atrium, ``"classes"`` that of UA-MT, SASSNet and DTC.
        smooth: 1e-10 in SS-Net in 2-D and 1e-8 in 3-D, 1e-5 in the code of UA-MT, SASSNet and DTC.

    Example:
        >>> from aureole.segment.dice import dice_loss
        >>> y = torch.tensor([[0, 1, 1]])
        >>> dice_loss(100.0 * torch.nn.functional.one_hot(y).movedim(-1, 1), y)
        tensor(0.)
    """
    first = 0 if background else 1
    wanted = F.one_hot(y, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    return dice_distance(logits.softmax(1)[:, first:], wanted[:, first:], form=form, scope="batch", smooth=smooth)[0]


@dataclass(frozen=True)
class SoftDice(Objective):
    """The soft Dice distance between the clean and the adversarial prediction (thesis Eq. 6.3).

    Args:
        form: ``"classes"`` or ``"joint"``; see :mod:`aureole.segment.dice`.
        scope: ``"image"``, or ``"batch"`` as in SS-Net's code.
        smooth: of both sides of the fraction; SS-Net has 1e-10 in 2-D and 1e-8 in 3-D.

    Raises:
        InputError: a name is unknown, or the smoothing is negative.

    Example:
        >>> from aureole.segment import SoftDice
        >>> clean = 100.0 * torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> SoftDice()(clean, clean), SoftDice()(clean.flip(1), clean)
        (tensor([0.]), tensor([1.]))
    """

    form: Form = "classes"
    scope: Scope = "image"
    smooth: float = 1e-10
    needs_clean: ClassVar[bool] = True
    positions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_form(self.form)
        if self.scope not in get_args(Scope):
            raise unknown_name("scope", str(self.scope), get_args(Scope))
        if not 0 <= self.smooth < torch.inf:
            raise InputError(f"smooth must be at least 0 and finite; got {self.smooth}")

    def __call__(self, logits: Tensor, clean_logits: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        if clean_logits is None:
            raise InputError("SoftDice needs clean logits; none were given")
        return self.between(logits.softmax(1), clean_logits.softmax(1))

    def between(self, p: Probabilities, q: Probabilities) -> Float[Tensor, " rows"]:
        """Return the distance of two predictions that are probabilities already."""
        return dice_distance(p, q, form=self.form, scope=self.scope, smooth=self.smooth)
