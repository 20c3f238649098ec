"""What an attack is: a frozen value that turns images into adversarial images and leaves no trace."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core.balls import Ball, Linf
from aureole.core.errors import InputError
from aureole.core.random import Streams


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """A callable ``(model, x, y) -> x_adv``.

    It never changes the model: mode, buffers, gradients, ``requires_grad`` and the global random state are as they
    were, also after an exception.

    Attributes:
        ball: where the adversarial images lie.

    Example:
        >>> isinstance(PGD(), Attack)
        True
    """

    ball: Ball = Linf(8 / 255)

    def __post_init__(self) -> None:
        if not isinstance(self.ball, Ball):
            raise InputError(f"ball must be an instance of Ball, such as Linf(8 / 255); got {self.ball!r}")

    @abstractmethod
    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images.

        Args:
            model: maps images (batch, *event) to logits (batch, classes).
            x: images inside the bounds of the ball.
            y: labels from 0 (for a targeted attack: the targets); None attacks the model's own predictions.
            generator: source of randomness; see :func:`aureole.core.random.streams_for`.

        Returns:
            Images inside the ball and the bounds, shape and type of ``x``.

        Raises:
            InputError: images, labels, devices or the model's output are not as described.
        """
