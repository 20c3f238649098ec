"""Attacks that take all points of an evaluation at once, and keep their batch full: see :mod:`aureole.attacks.pool`."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from aureole.attacks.base import Attack
from aureole.attacks.pool import Points, Pool, Procedure
from aureole.core import checks
from aureole.core.errors import InputError
from aureole.core.journal import Journal
from aureole.core.model import predict, random_state_kept, searched
from aureole.core.random import Streams, streams_for

_FEW = 8


@dataclass(frozen=True, kw_only=True)
class WholeSetAttack(Attack):
    """An attack that may be given all points of an evaluation at once.

    Attributes:
        max_batch: most images in one pass through the model; None for all at once. The result is the same.
        eager: let several runs of one point (restarts, targets) share a batch; None does so where the points alone
            would not fill it: always on an accelerator, and on a CPU for at most 8 points. Which points are fooled is
            the same, the image that fools may be another.
    """

    name: ClassVar[str] = "attack"
    warns_of_training: ClassVar[bool] = False
    max_batch: int | None = None
    eager: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_batch is not None and self.max_batch < 1:
            raise InputError(f"max_batch must be at least 1, or None; got {self.max_batch}")

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images; see :class:`aureole.attacks.base.Attack`."""
        streams = streams_for(x, generator)
        x_adv = self.run(model, x, y, streams=streams)
        streams.draws += 1
        return x_adv

    def run(
        self,
        model: nn.Module,
        x: Float[Tensor, "points *event"],
        y: Int[Tensor, " points"] | None = None,
        *,
        streams: Streams | None = None,
        index: Int64[Tensor, " points"] | None = None,
        journal: Journal | None = None,
    ) -> Float[Tensor, "points *event"]:
        """Attack all points of an evaluation, and tell a journal of each that is decided.

        Args:
            model: maps images (batch, *event) to logits (batch, classes).
            x: images inside the bounds of the ball.
            y: labels from 0; None attacks the model's own predictions.
            streams: one random stream a point; None takes the library's own.
            index: numbers of the points in the data set, for the journal; None counts from 0.
            journal: what is known from before, and who is to hear of progress.

        Returns:
            Images inside the ball and the bounds: one that fools the model where one was found.

        Raises:
            InputError: images, labels, devices or the model's output are not as described.
        """
        checks.check_call(model, x, y, self.ball)
        streams = streams_for(x, streams)
        if self.warns_of_training and model.training:
            checks.warn_training(model)
        trusted = not model.training  # a model in training makes no claim that would need a warning
        with random_state_kept(x.device), searched(model, x) as images:
            clean = torch.cat([predict(model, part) for part in images.split(self.max_batch or len(images))])
            labels = clean.argmax(-1) if y is None else y.long()
            checks.check_classes(labels, clean.shape[1])
            if trusted:
                checks.warn_softmax(clean)
            numbers = torch.arange(len(images), device=images.device) if index is None else index.to(images.device)
            points = Points(numbers, images, labels, clean, streams)
            return self.attack(model, points, journal or Journal())

    @abstractmethod
    def attack(self, model: nn.Module, points: Points, journal: Journal) -> Tensor:
        """Attack checked points of a frozen model: what :meth:`run` does after its checks."""


@dataclass(frozen=True, kw_only=True)
class PooledAttack(WholeSetAttack):
    """A whole-set attack that is one procedure of a :class:`~aureole.attacks.pool.Pool`."""

    @abstractmethod
    def procedure(self, num_classes: int) -> Procedure[Any]:
        """Return the attack as a state machine over rows."""

    def attack(self, model: nn.Module, points: Points, journal: Journal, *, name: str | None = None) -> Tensor:
        """Run the procedure; ``name`` is what the journal knows it by."""
        pool = Pool(
            self.procedure(points.clean.shape[1]),
            model,
            points,
            max_batch=self.max_batch,
            eager=points.x.device.type != "cpu" or len(points) <= _FEW if self.eager is None else self.eager,
            name=name or self.name,
            journal=journal,
        )
        return pool.run()
