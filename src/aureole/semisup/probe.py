"""The particle search that the authors of ALD released, as a start of a ``ParticleSearch``.

    d_i ~ unit(U(-0.5, 0.5));    x_i = x + radius * unit(phi_i)
    phi_i = 1/M sum_j [K(d_j, d_i) s_j + grad_{d_j} K(d_j, d_i)]
    s_j   = grad_{d_j} of the mean objective at x + distance d

It is no case of Algorithm 5.1, nor of the search with ``Probe``: particles live on the unit sphere of directions and
not in the ball, the kernel reads directions, M counts the particles of all images of the batch (which meet), and the
objective is a mean over them, so that the repulsion grows with the batch beside the score. Nothing is moved by a step
size, and nothing accumulates. Use it to reproduce; for anything else take ``Probe`` with a kernel of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.balls import L2, Ball
from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.particles.kernels import RBF, Kernel
from aureole.particles.starts import Direction, Start

_EUCLIDEAN = L2(1.0, bounds=None)


@dataclass(frozen=True)
class SteinProbe(Start):
    """Begin at the edge of the ball, along directions that Stein variational gradient descent finds.

    Args:
        distance: how far from the image the model is probed, Euclidean (xi; 10 in the authors' code).
        num_iterations: updates of the directions.
        kernel: between directions. The default is the authors': the width 10^(1 - n) leaves no repulsion between random
            directions for n >= 2, and for n = 1 a repulsion between the *images* of a batch that outweighs the score.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> from aureole import KL, L2
        >>> from aureole.semisup.probe import SteinProbe
        >>> search = ParticleSearch(L2(0.1), num_particles=2, num_steps=0, objective=KL(), kernel=None,
        ...     start=SteinProbe())
        >>> search(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(5, 1, 2, 2)).x_adv.shape
        torch.Size([2, 5, 1, 2, 2])

    Source:
        Nguyen-Duc et al. 2022, their released code.
    """

    distance: float = 10.0
    num_iterations: int = 1
    kernel: Kernel = RBF("thesis", scope="batch")

    def __post_init__(self) -> None:
        if not self.distance > 0 or self.num_iterations < 1:
            raise InputError(
                f"SteinProbe needs a positive distance and at least 1 iteration; got {self.distance} and"
                f" {self.num_iterations}"
            )

    def __call__(
        self,
        x: Float[Tensor, "batch *event"],
        ball: Ball,
        streams: Streams,
        num_particles: int,
        direction: Direction,
    ) -> Float[Tensor, "num_particles batch *event"]:
        """Return the points that the directions lead to; those at the edge of the ball need only be clipped."""
        event_ndim, rows = x.ndim - 1, num_particles * len(x)
        noise = streams.uniform((num_particles, *x.shape), batch_dim=1) - 0.5
        d = _EUCLIDEAN.steepest(noise.to(x.dtype), event_ndim)
        for _ in range(self.num_iterations):
            score = direction(x + self.distance * d) * (self.distance / rows)
            drive, repulsion, _ = self.kernel(score, d, torch.zeros_like(x))
            d = _EUCLIDEAN.steepest(drive + repulsion, event_ndim)
        return ball.clip(x + ball.radius * ball.steepest(d, event_ndim))
