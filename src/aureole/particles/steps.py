"""Step rules: from the direction of a particle to how far it moves (``r`` of Algorithm 5.1)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from aureole.core.balls import L2, Ball
from aureole.core.errors import InputError
from aureole.core.random import Streams

Points = Float[Tensor, "num_particles batch *event"]
_EUCLIDEAN = L2(1.0, bounds=None)


@dataclass(frozen=True)
class StepRule(ABC):
    """How particles move along their directions. A rule that remembers passes its memory on as ``state``."""

    @abstractmethod
    def __call__(
        self, direction: Points, step_size: float, ball: Ball, streams: Streams, state: Tensor | None
    ) -> tuple[Points, Tensor | None]:
        """Return the displacement of every particle, and the state for the next step.

        Args:
            direction: ascent direction, shape (num_particles, batch, *event).
            step_size: length of a step, in the units of the images.
            ball: the ball that the particles live in.
            streams: one random stream an example.
            state: what the last step returned; None at the first.
        """


@dataclass(frozen=True)
class Steepest(StepRule):
    """Steepest ascent in the norm of the ball: signs in Linf, unit length in L2, one coordinate in L1."""

    def __call__(
        self, direction: Points, step_size: float, ball: Ball, streams: Streams, state: Tensor | None
    ) -> tuple[Points, Tensor | None]:
        """Return the steepest direction, times the step size."""
        return step_size * ball.steepest(direction, direction.ndim - 2), state


@dataclass(frozen=True)
class Sign(StepRule):
    """Move every coordinate by the step size, along its sign, whatever the ball."""

    def __call__(
        self, direction: Points, step_size: float, ball: Ball, streams: Streams, state: Tensor | None
    ) -> tuple[Points, Tensor | None]:
        """Return the signs, times the step size."""
        return step_size * direction.sign(), state


@dataclass(frozen=True)
class UnitL2(StepRule):
    """Move by a Euclidean length of the step size, whatever the ball."""

    def __call__(
        self, direction: Points, step_size: float, ball: Ball, streams: Streams, state: Tensor | None
    ) -> tuple[Points, Tensor | None]:
        """Return the direction at unit Euclidean length, times the step size."""
        return step_size * _EUCLIDEAN.steepest(direction, direction.ndim - 2), state


@dataclass(frozen=True)
class Momentum(StepRule):
    """Follow m <- decay * m + direction / |direction|_1 with another rule (MIM, Dong et al. 2018, Eq. 6).

    A zero gradient adds nothing, where dividing by its norm would give NaN.
    """

    decay: float = 1.0
    rule: StepRule = Steepest()

    def __call__(
        self, direction: Points, step_size: float, ball: Ball, streams: Streams, state: Tensor | None
    ) -> tuple[Points, Tensor | None]:
        """Return the inner rule's step along the accumulated direction."""
        dims = tuple(range(2, direction.ndim))
        unit = direction / direction.abs().sum(dims, keepdim=True).clamp_min(1e-30)
        state = unit if state is None else self.decay * state + unit
        return self.rule(state, step_size, ball, streams, None)[0], state


@dataclass(frozen=True)
class Langevin(StepRule):
    """Stochastic gradient Langevin dynamics: step_size * direction + noise * sqrt(2 step_size) * N(0, I).

    In a search with ``kernel=None`` the particles are independent samples of exp(objective / noise^2) as the step goes
    to 0 (Welling and Teh 2011; thesis reference 230). With a ``rule``, the drive is normalised by it first, and the
    noise is ``noise * step_size * N(0, I)``: on the scale of an attack's steps.

    Args:
        noise: scale of the noise, at least 0.
        rule: normalises the drive; None leaves it as it is.

    Example:
        >>> search = ParticleSearch(Linf(0.1), kernel=None, step=Langevin(noise=0.1, rule=Steepest()))
    """

    noise: float = 1.0
    rule: StepRule | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise InputError(f"the noise of Langevin must be at least 0; got {self.noise}")

    def __call__(
        self, direction: Points, step_size: float, ball: Ball, streams: Streams, state: Tensor | None
    ) -> tuple[Points, Tensor | None]:
        """Return the drift and the noise."""
        normal = streams.normal(tuple(direction.shape), batch_dim=1).to(direction.dtype)
        if self.rule is None:
            return step_size * direction + self.noise * math.sqrt(2 * step_size) * normal, state
        drift, state = self.rule(direction, step_size, ball, streams, state)
        return drift + self.noise * step_size * normal, state
