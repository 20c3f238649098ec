"""Starts: where the particles of a search begin (line 1 of Algorithm 5.1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from aureole.core.balls import L2, Ball
from aureole.core.random import Streams

Points = Float[Tensor, "num_particles batch *event"]
Images = Float[Tensor, "batch *event"]
Direction = Callable[[Points], Points]
_EUCLIDEAN = L2(1.0, bounds=None)


@dataclass(frozen=True)
class Start(ABC):
    """Where the particles begin: always inside the ball and the bounds."""

    @abstractmethod
    def __call__(self, x: Images, ball: Ball, streams: Streams, num_particles: int, direction: Direction) -> Points:
        """Return the first particles.

        Args:
            x: images, shape (batch, *event).
            ball: where the particles may lie.
            streams: one random stream an example.
            num_particles: particles an image.
            direction: the ascent direction at given particles, for a start that probes the model.

        Returns:
            Particles of shape (num_particles, batch, *event).
        """


@dataclass(frozen=True)
class AtImage(Start):
    """Begin at the image itself (FGSM, BIM)."""

    def __call__(self, x: Images, ball: Ball, streams: Streams, num_particles: int, direction: Direction) -> Points:
        """Return copies of the images."""
        return x.expand(num_particles, *x.shape).clone()


@dataclass(frozen=True)
class InBall(Start):
    """Begin at points uniform in the ball (PGD)."""

    def __call__(self, x: Images, ball: Ball, streams: Streams, num_particles: int, direction: Direction) -> Points:
        """Return uniform samples of the ball, projected on the bounds."""
        return ball.sample(x, streams, num_particles)


@dataclass(frozen=True)
class Uniform(Start):
    """Begin at x + scale * U(-1, 1), projected: eta of Algorithm 5.1."""

    scale: float = 1e-3

    def __call__(self, x: Images, ball: Ball, streams: Streams, num_particles: int, direction: Direction) -> Points:
        """Return images with uniform noise, projected."""
        noise = streams.uniform((num_particles, *x.shape), batch_dim=1).mul_(2).sub_(1)
        return ball.project(x + self.scale * noise.to(x.dtype), x)


@dataclass(frozen=True)
class Normal(Start):
    """Begin at x + scale * N(0, 1), projected (TRADES takes 0.001)."""

    scale: float = 1e-3

    def __call__(self, x: Images, ball: Ball, streams: Streams, num_particles: int, direction: Direction) -> Points:
        """Return images with normal noise, projected."""
        noise = streams.normal((num_particles, *x.shape), batch_dim=1)
        return ball.project(x + self.scale * noise.to(x.dtype), x)


@dataclass(frozen=True)
class SignedNormal(Start):
    """Begin at x + scale * steepest(N(0, 1)), projected (R+FGSM, Tramer et al. 2018; thesis Eq. 2.25).

    In Linf that is scale * sign(N(0, 1)); in L2 a random direction, in L1 a random coordinate, of the length ``scale``.
    """

    scale: float = 1e-3

    def __call__(self, x: Images, ball: Ball, streams: Streams, num_particles: int, direction: Direction) -> Points:
        """Return images with steps in random steepest directions, projected."""
        noise = ball.steepest(streams.normal((num_particles, *x.shape), batch_dim=1), x.ndim - 1)
        return ball.project(x + self.scale * noise.to(x.dtype), x)


@dataclass(frozen=True)
class Probe(Start):
    """Begin at the edge of the ball, along directions that power iteration finds (VAT, Miyato et al. 2018).

    From a random unit vector d, repeat d <- unit(direction at x + distance * d); begin at x + radius * steepest(d). The
    probing points may lie outside the ball, the start does not. With ``num_steps=0`` this alone is VAT's search.

    Args:
        distance: how far from the image the model is probed, Euclidean (xi; 10 in the thesis's code).
        num_iterations: power iterations.
    """

    distance: float = 10.0
    num_iterations: int = 1

    def __call__(self, x: Images, ball: Ball, streams: Streams, num_particles: int, direction: Direction) -> Points:
        """Return the points that power iteration finds; those at the edge of the ball need only be clipped."""
        event_ndim = x.ndim - 1
        probe = _EUCLIDEAN.steepest(streams.normal((num_particles, *x.shape), batch_dim=1).to(x.dtype), event_ndim)
        for _ in range(self.num_iterations):
            probe = _EUCLIDEAN.steepest(direction(x + self.distance * probe), event_ndim)
        return ball.clip(x + ball.radius * ball.steepest(probe, event_ndim))
