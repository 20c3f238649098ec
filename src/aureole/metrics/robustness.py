"""Robust accuracy that does not trust the attack: projected again, checked again, judged by a pass of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aureole.core.balls import Ball
from aureole.core.checks import check_classes, check_images, check_labels
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.method import Batch
from aureole.core.model import frozen, predict
from aureole.core.random import Streams, streams_for


@runtime_checkable
class AttackLike(Protocol):
    """Whatever turns images into adversarial images of a ball."""

    @property
    def ball(self) -> Ball:
        """Where the adversarial images must lie."""
        ...

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Tensor:
        """Return adversarial images."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What an attack did to each image.

    Attributes:
        natural: the clean image is classified correctly.
        robust: the clean and the adversarial image are.
        distance: of the adversarial image from the clean one, in the norm of the ball; 0 where no attack was needed.
    """

    natural: Bool[Tensor, " batch"]
    robust: Bool[Tensor, " batch"]
    distance: Float[Tensor, " batch"]


@torch.no_grad()
def attack_success(
    model: nn.Module,
    attack: AttackLike,
    x: Float[Tensor, "batch *event"],
    y: Int[Tensor, " batch"],
    *,
    generator: torch.Generator | Streams | None = None,
) -> Outcome:
    """Attack the images that the model classifies correctly, and judge the result by a clean forward pass.

    Args:
        model: maps images to logits; judged in evaluation mode, and left as it was.
        attack: any callable ``(model, x, y, generator=...) -> x_adv`` with a ``ball``.
        x: images inside the bounds of the ball.
        y: labels.
        generator: source of the attack's randomness.

    Returns:
        One outcome an image. An image that the model gets wrong without an attack counts as not robust.

    Raises:
        InputError: images or labels are not as described, or the attack returned another shape or NaN.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> outcome = attack_success(model, FGSM(ball=Linf(0.1)), x, y)
        >>> bool((outcome.robust <= outcome.natural).all())
        True
    """
    check_images(x, attack.ball)
    check_labels(y, x)
    streams = streams_for(x, generator)
    with frozen(model):
        clean = predict(model, x)
        check_classes(y, clean.shape[1])
        natural = clean.argmax(-1) == y
        robust, distance = natural.clone(), torch.zeros(len(x), device=x.device, dtype=x.dtype)
        if not bool(natural.any()):
            return Outcome(natural, robust, distance)
        x_adv = attack(model, x[natural], y[natural], generator=streams.select(natural))
        x_adv = _trusted(x_adv, x[natural], attack.ball)
        robust[natural] = predict(model, x_adv).argmax(-1) == y[natural]
        distance[natural] = attack.ball.distance(x_adv, x[natural])
    return Outcome(natural, robust, distance)


def _trusted(x_adv: Tensor, x: Tensor, ball: Ball) -> Tensor:
    """Return the adversarial images, moved back into the ball where they were outside."""
    if x_adv.shape != x.shape or not bool(x_adv.isfinite().all()):
        raise InputError(f"the attack must return finite images of shape {tuple(x.shape)}; got {tuple(x_adv.shape)}")
    inside = ball.contains(x_adv, x)
    if bool(inside.all()):
        return x_adv
    warnings.warn(
        f"the attack left the ball for {int((~inside).sum())} of {len(x)} images; they were projected back",
        UntrustedResult,
        stacklevel=3,
    )
    return ball.project(x_adv, x)


@dataclass(frozen=True)
class Accuracy:
    """A count of correct images.

    Attributes:
        num_examples: images judged.
        num_correct: of them, classified correctly.
    """

    num_examples: int
    num_correct: int


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    attack: AttackLike | None,
    *,
    advance: Callable[[int], None] = lambda count: None,
) -> Accuracy:
    """Return the accuracy of a model under an attack, or its natural accuracy.

    Args:
        model: maps images to logits.
        batches: images with labels; their streams make the result independent of the batch size.
        attack: the attack; None for the natural accuracy.
        advance: told the number of images after each batch.

    Returns:
        Counts over all batches.

    Raises:
        InputError: there are no images; or as :func:`attack_success`.
    """
    if model.training and any(isinstance(m, _BatchNorm) for m in model.modules()):
        warnings.warn(
            "the model was in training mode; it is evaluated in evaluation mode", UntrustedResult, stacklevel=2
        )
    total = correct = 0
    for batch in batches:
        if attack is None:
            with torch.no_grad(), frozen(model):
                right = predict(model, batch.x).argmax(-1) == batch.y
        else:
            right = attack_success(model, attack, batch.x, batch.y, generator=batch.streams).robust
        total, correct = total + len(batch), correct + int(right.sum())
        advance(len(batch))
    if total == 0:
        raise InputError("there are no images to evaluate on")
    return Accuracy(total, correct)
