"""Any dense attack, cut down to the pixels that matter."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.attacks import Attack
from aureole.core.balls import Ball
from aureole.core.random import Streams, streams_for
from aureole.refine.fewest import fewest_pixels
from aureole.refine.refiner import Refiner


@dataclass(frozen=True, kw_only=True)
class RefinedAttack(Attack):
    """A source attack followed by a :class:`~aureole.refine.Refiner`: an attack like any other.

    Attributes:
        source: the dense attack; the refined images lie in its ball.
        refiner: picks the pixels.
        fewest: ask the victim how few pixels suffice, by bisection along the map's ranking, in place of the refiner's
            share; an image that the source attack did not fool keeps the refiner's share.

    Example:
        >>> from aureole.refine.refiner import changed_share
        >>> victim = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
        >>> attack = RefinedAttack(source=FGSM(ball=Linf(0.1)), refiner=Refiner(nn.Conv2d(3, 1, 1), share=0.25))
        >>> x = torch.rand(2, 3, 4, 4)
        >>> bool((changed_share(x, attack(victim, x, torch.tensor([0, 2]))) <= 0.25).all())
        True

    Source: thesis chapter 3 (PVAR).
    """

    ball: Ball = field(init=False)
    source: Attack
    refiner: Refiner
    fewest: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "ball", self.source.ball)
        super().__post_init__()

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return refined images; see :class:`aureole.attacks.base.Attack`."""
        streams = streams_for(x, generator)
        x_source = self.source(model, x, y, generator=streams)
        x_adv = self.refiner(x, x_source, streams.fork(1))
        if not self.fewest:
            return x_adv
        with torch.no_grad():
            theta = self.refiner.scores(x, x_source)
        targeted = bool(getattr(self.source, "targeted", False))
        found = fewest_pixels(model, x, x_source, theta, y, targeted=targeted)
        return torch.where(found.fooled.view(-1, *(1,) * (x.ndim - 1)), found.x_adv, x_adv)
