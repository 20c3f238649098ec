"""Attacks that look for the nearest adversarial image, at any distance: success is a distance within the radius."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.attacks.base import Attack
from aureole.core import checks
from aureole.core.model import predict, searched
from aureole.core.random import Streams, streams_for


@dataclass(frozen=True, kw_only=True)
class MinimalAttack(Attack):
    """An attack that minimises the norm of its ball; called as any attack, it answers within the radius.

    Attributes:
        max_batch: most images in one pass through the model; None for all at once. The result is the same.

    Example:
        >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(2, 1, 2, 2)
        >>> attack = DeepFool(ball=L2(0.1))
        >>> bool((L2(0.1).distance(attack(model, x), x) <= 0.1001).all())
        True
    """

    max_batch: int | None = None

    @abstractmethod
    def _minimize(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        """Return the nearest adversarial images found for one batch; an image where none was found, as it is.

        The model is frozen and in evaluation mode, gradients are off, and the input is checked.
        """

    def minimize(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return the nearest adversarial images found, at whatever distance, inside the bounds of the data.

        Args:
            model: maps images (batch, *event) to logits (batch, classes).
            x: images inside the bounds of the ball.
            y: labels from 0; None attacks the model's own predictions.
            generator: source of randomness; see :func:`aureole.core.random.streams_for`.

        Returns:
            Adversarial images; an image that the model misclassifies already, or for which nothing was found, is
            returned as it is.

        Raises:
            InputError: images, labels, devices or the model's output are not as described.
        """
        checks.check_call(model, x, y, self.ball)
        streams = streams_for(x, generator)
        with searched(model, x) as images:
            parts = []
            for begin in range(0, len(images), self.max_batch or len(images)):
                part = slice(begin, begin + (self.max_batch or len(images)))
                clean = predict(model, images[part])
                labels = clean.argmax(-1) if y is None else y[part].long()
                checks.check_classes(labels, clean.shape[1])
                parts.append(self._minimize_correct(model, images[part], labels, clean, streams.select(part)))
        streams.draws += 1  # the parts drew from copies of the streams
        return torch.cat(parts)

    def _minimize_correct(self, model: nn.Module, x: Tensor, y: Tensor, clean: Tensor, streams: Streams) -> Tensor:
        """Attack the images that the model classifies correctly."""
        correct, x_adv = clean.argmax(-1) == y, x.clone()
        if bool(correct.any()):
            x_adv[correct] = self._minimize(model, x[correct], y[correct], streams.select(correct))
        return x_adv

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images within the radius: those found farther away are moved to the ball."""
        x_adv = self.minimize(model, x, y, generator=generator)
        near = self.ball.distance(x_adv, x) <= self.ball.radius + 5e-7  # what rounding adds to a projected image
        return torch.where(near.view(-1, *(1,) * (x.ndim - 1)), x_adv, self.ball.project(x_adv, x))
