"""Robust accuracy that does not trust the attack: projected again, checked again, judged by a pass of its own."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aureole.core.balls import Ball
from aureole.core.checks import check_classes, check_images, check_labels
from aureole.core.errors import InputError, UntrustedResult
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
        natural = natural_success(model, x, y)
        robust, distance = natural.clone(), torch.zeros(len(x), device=x.device, dtype=x.dtype)
        if not bool(natural.any()):
            return Outcome(natural, robust, distance)
        x_adv = attack(model, x[natural], y[natural], generator=streams.select(natural))
        x_adv = trusted(x_adv, x[natural], attack.ball)
        robust[natural] = predict(model, x_adv).argmax(-1) == y[natural]
        distance[natural] = attack.ball.distance(x_adv, x[natural])
    return Outcome(natural, robust, distance)


def natural_success(
    model: nn.Module, x: Float[Tensor, "batch *event"], y: Int[Tensor, " batch"]
) -> Bool[Tensor, " batch"]:
    """Say which images a frozen model classifies correctly without an attack.

    Raises:
        InputError: a label is no class of the model, or the model returns no logits.
    """
    clean = predict(model, x)
    check_classes(y, clean.shape[1])
    return clean.argmax(-1) == y


def trusted(x_adv: Tensor, x: Float[Tensor, "batch *event"], ball: Ball) -> Float[Tensor, "batch *event"]:
    """Return the adversarial images of an attack, moved back into the ball where they were outside.

    Raises:
        InputError: they have another shape than the images, or are not finite.
    """
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
class Change:
    """How far adversarial images are from the clean ones.

    Attributes:
        l0: share of the pixels that changed, in [0, 1]; a pixel counts once, however many of its channels changed.
        l2: Euclidean norm of the change.
        linf: largest absolute change.
    """

    l0: Float[Tensor, " batch"]
    l2: Float[Tensor, " batch"]
    linf: Float[Tensor, " batch"]


def change(x_adv: Float[Tensor, "batch *event"], x: Float[Tensor, "batch *event"]) -> Change:
    """Measure how far images were changed.

    Args:
        x_adv: adversarial images; those of shape (batch, channels, height, width) have pixels of several channels.
        x: the clean ones.

    Returns:
        One number an image and a measure.

    Example:
        >>> x = torch.zeros(1, 3, 2, 2)
        >>> x_adv = x.clone()
        >>> x_adv[0, :2, 0, 0] = torch.tensor([0.3, 0.4])
        >>> measured = change(x_adv, x)
        >>> round(float(measured.l0), 3), round(float(measured.l2), 3), round(float(measured.linf), 3)
        (0.25, 0.5, 0.4)
    """
    delta = x_adv - x
    pixels = (delta != 0).any(1) if delta.ndim > 3 else delta != 0
    flat = delta.flatten(1)
    return Change(
        l0=pixels.flatten(1).to(x.dtype).mean(1),
        l2=torch.linalg.vector_norm(flat, dim=1),
        linf=flat.abs().amax(1),
    )
