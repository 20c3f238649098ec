"""Balls: where an adversarial image may lie. A ball knows its norm, its radius and the bounds of the data.

Geometry is a value, never a string. ``project`` is the exact Euclidean projection on the ball and the box of the data
together: after a radial step is clipped, the other coordinates may use the room that the clipped ones left.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams

Bound = float | tuple[float, ...]
Bounds = tuple[Bound, Bound]


@dataclass(frozen=True)
class Ball(ABC):
    """All images within ``radius`` of a given one, and within the bounds of the data.

    Args:
        radius: largest distance, positive, in the units of the images.
        bounds: least and greatest value of the data: a pair of numbers, a pair of tuples with one number a channel,
            or None for unbounded data.

    Raises:
        InputError: the radius is not a positive number, or a lower bound is not below its upper bound.

    Example:
        >>> colour = Linf(8 / 255, bounds=((0.0, 0.0, 0.0), (1.0, 1.0, 0.5)))
        >>> colour.clip(torch.ones(3, 1, 1)).flatten()
        tensor([1.0000, 1.0000, 0.5000])
    """

    radius: float
    bounds: Bounds | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not (isinstance(self.radius, int | float) and 0 < self.radius < math.inf):
            raise InputError(
                f"the radius of a ball must be a positive finite number; got {self.radius!r}"
                " (without a perturbation, report the natural accuracy instead)"
            )
        if self.bounds is None:
            return
        if not isinstance(self.bounds, tuple | list) or len(self.bounds) != 2:
            raise InputError(f"bounds must be a pair (low, high), or None; got {self.bounds!r}")
        low, high = (torch.as_tensor(b, dtype=torch.float64) for b in self.bounds)
        if low.shape != high.shape or not bool((low < high).all()):
            raise InputError(f"bounds must be (low, high) with every low below its high; got {self.bounds}")

    def limits(self, x: Float[Tensor, "*shape"]) -> tuple[Tensor, Tensor] | None:
        """Return the bounds as tensors that broadcast against images (*many, channels, height, width)."""
        if self.bounds is None:
            return None
        low, high = (  # numbers are filled in on the device: a copy from the host would stall it
            x.new_full((), bound) if isinstance(bound, int | float) else x.new_tensor(bound)[:, None, None]
            for bound in self.bounds
        )
        return low, high

    def clip(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return ``x`` clipped to the bounds of the data."""
        if self.bounds is not None and all(isinstance(bound, int | float) for bound in self.bounds):
            return x.clamp(*self.bounds)  # pyright: ignore[reportCallIssue, reportArgumentType]
        limits = self.limits(x)
        return x if limits is None else x.clamp(*limits)

    def project(
        self, x_adv: Float[Tensor, "*many batch *event"], x: Float[Tensor, "batch *event"]
    ) -> Float[Tensor, "*many batch *event"]:
        """Return the nearest point (in Euclidean distance) of the ball and the bounds together.

        Args:
            x_adv: any images, shape (*many, batch, *event): for instance particles of each image.
            x: centres inside the bounds, shape (batch, *event).

        Returns:
            A tensor of the shape of ``x_adv``, inside within the rounding of its type.
        """
        delta, event_ndim = x_adv - x, x.ndim - 1
        size = delta.abs()
        room = size if self.bounds is None else (self.clip(x_adv) - x).abs()
        shrunk = self._shrink(size.flatten(-event_ndim), torch.minimum(room, size).flatten(-event_ndim))
        return self.clip(x + shrunk.view_as(delta).copysign(delta))

    def projector(self, x: Float[Tensor, "batch *event"]) -> Callable[[Tensor], Tensor]:
        """Return :meth:`project` around fixed centres: what does not depend on the points is worked out once."""
        return lambda x_adv: self.project(x_adv, x)

    def retract(
        self, x_adv: Float[Tensor, "*many batch *event"], x: Float[Tensor, "batch *event"]
    ) -> Float[Tensor, "*many batch *event"]:
        """Return a point of the ball and the bounds near ``x_adv``: cheaper than the nearest, where a ball knows such.

        AutoAttack's own rule: in L2, scale the perturbation, then clip. Elsewhere it is :meth:`project`.
        """
        return self.project(x_adv, x)

    @abstractmethod
    def _shrink(self, size: Float[Tensor, "*many d"], room: Float[Tensor, "*many d"]) -> Float[Tensor, "*many d"]:
        """Project non-negative vectors on the unit's positive orthant: norm at most the radius, at most ``room``."""

    @abstractmethod
    def _draw(self, shape: tuple[int, ...], streams: Streams, event_ndim: int) -> Tensor:
        """Draw points uniform in the ball of radius 1; dimension 1 of ``shape`` runs over the examples."""

    def sample(
        self, x: Float[Tensor, "batch *event"], streams: Streams, num_samples: int = 1
    ) -> Float[Tensor, "num_samples batch *event"]:
        """Draw points uniform in the ball, and move those outside the bounds to the nearest inside.

        Args:
            x: centres, shape (batch, *event).
            streams: one random stream an example.
            num_samples: points an example.

        Returns:
            Points in the ball and the bounds, shape (num_samples, batch, *event).
        """
        delta = self._draw((num_samples, *x.shape), streams, x.ndim - 1).to(x.dtype)
        return self.project(x + self.radius * delta, x)

    @abstractmethod
    def sample_boundary(self, x: Float[Tensor, "batch *event"], streams: Streams) -> Float[Tensor, "batch *event"]:
        """Draw a point at the distance of the radius from each image, then move it inside the bounds.

        These are the starts of AutoAttack (Croce and Hein 2020, 2021): in Linf uniform noise divided by its largest
        coordinate, in L2 normal noise divided by its norm, in L1 normal noise projected.
        """

    @abstractmethod
    def steepest(self, gradient: Float[Tensor, "*many"], event_ndim: int) -> Float[Tensor, "*many"]:
        """Return the direction of unit norm (of this ball) with the greatest inner product with the gradient.

        Args:
            gradient: any tensor whose last ``event_ndim`` dimensions are one image.
            event_ndim: number of dimensions of one image.

        Returns:
            A tensor of the same shape; zero where the gradient of an image is zero.
        """

    @abstractmethod
    def norm(self, delta: Float[Tensor, "..."], event_ndim: int) -> Float[Tensor, "..."]:
        """Return the norm of each perturbation, taken over its last ``event_ndim`` dimensions."""

    def distance(
        self, x_adv: Float[Tensor, "*many batch *event"], x: Float[Tensor, "batch *event"]
    ) -> Float[Tensor, "*many batch"]:
        """Return the distance of each image from its centre."""
        return self.norm(x_adv - x, x.ndim - 1)

    def contains(self, x_adv: Float[Tensor, "*many batch *event"], x: Float[Tensor, "batch *event"]) -> Tensor:
        """Say which images lie in the ball and the bounds, within the rounding of their type."""
        slack = 16 * torch.finfo(x_adv.dtype).eps
        near = self.distance(x_adv, x) <= self.radius * (1 + slack) + slack
        return near & ((self.clip(x_adv) - x_adv).abs().flatten(-(x.ndim - 1)).amax(-1) <= slack)


@dataclass(frozen=True)
class Linf(Ball):
    """The ball of the largest change of any coordinate.

    Example:
        >>> x = torch.tensor([[0.05, 0.5]])
        >>> Linf(0.1).project(torch.tensor([[-1.0, 0.7]]), x)
        tensor([[0.0000, 0.6000]])
    """

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Clip each coordinate to the interval that the radius and the bounds leave it: exact, and the fastest way."""
        return self.projector(x)(x_adv)

    def projector(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the projection around fixed centres: one clip a call."""
        low, high = self.clip(x - self.radius), self.clip(x + self.radius)
        return lambda x_adv: x_adv.clamp(low, high)

    def _shrink(self, size: Tensor, room: Tensor) -> Tensor:
        return room.clamp_max(self.radius)

    def _draw(self, shape: tuple[int, ...], streams: Streams, event_ndim: int) -> Tensor:
        return streams.uniform(shape, batch_dim=1).mul_(2).sub_(1)

    def sample_boundary(self, x: Tensor, streams: Streams) -> Tensor:
        """Divide uniform noise by its largest coordinate."""
        noise = streams.uniform(tuple(x.shape)).mul_(2).sub_(1).to(x.dtype)
        largest = noise.abs().amax(tuple(range(1, x.ndim)), keepdim=True)
        return self.clip(x + self.radius * noise / largest)

    def steepest(self, gradient: Tensor, event_ndim: int) -> Tensor:
        """Return the sign of the gradient."""
        return gradient.sign()

    def norm(self, delta: Tensor, event_ndim: int) -> Tensor:
        """Return the largest absolute change."""
        return delta.abs().flatten(-event_ndim).amax(-1)


@dataclass(frozen=True)
class L2(Ball):
    """The Euclidean ball.

    Example:
        >>> L2(1.0, bounds=None).project(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
        tensor([[0.6000, 0.8000]])
    """

    def _shrink(self, size: Tensor, room: Tensor) -> Tensor:
        """Return min(s * size, room) for the largest s <= 1 whose norm is at most the radius.

        The squared norm is a concave and piecewise linear function of s^2, so Newton's steps from 0 never overshoot
        and end exactly after at most one a coordinate; a handful does in practice, and fewer give a point inside.
        """
        squares, caps = size.square(), room.square()
        scale = torch.zeros_like(size[..., :1])
        for count in range(1, 101):
            free = scale * squares < caps
            rest = self.radius**2 - torch.where(free, 0, caps).sum(-1, keepdim=True)
            step = rest / torch.where(free, squares, 0).sum(-1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
            before, scale = scale, torch.maximum(scale, step.clamp_max(1))
            if (size.is_cpu or count % 10 == 0) and bool((scale == before).all()):  # a look stalls any other device
                break
        return torch.minimum(scale.sqrt() * size, room)

    def _draw(self, shape: tuple[int, ...], streams: Streams, event_ndim: int) -> Tensor:
        direction = self.steepest(streams.normal(shape, batch_dim=1), event_ndim)
        share = streams.uniform((*shape[:-event_ndim], *(1,) * event_ndim), batch_dim=1)
        return direction * share ** (1 / math.prod(shape[-event_ndim:]))

    def retract(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Scale the perturbation to the radius where it is longer, then clip."""
        delta = x_adv - x
        length = torch.linalg.vector_norm(delta.flatten(-(x.ndim - 1)), dim=-1)
        scale = (self.radius / length.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)
        return self.clip(x + delta * scale.view(*length.shape, *(1,) * (x.ndim - 1)))

    def sample_boundary(self, x: Tensor, streams: Streams) -> Tensor:
        """Divide normal noise by its norm."""
        noise = streams.normal(tuple(x.shape)).to(x.dtype)
        return self.clip(x + self.radius * self.steepest(noise, x.ndim - 1))

    def steepest(self, gradient: Tensor, event_ndim: int) -> Tensor:
        """Return the gradient divided by its Euclidean norm; scaled first, so that tiny ones do not underflow."""
        dims = tuple(range(-event_ndim, 0))
        scaled = gradient / gradient.abs().amax(dims, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        return scaled / torch.linalg.vector_norm(scaled, dim=dims, keepdim=True).clamp_min(0.5)

    def norm(self, delta: Tensor, event_ndim: int) -> Tensor:
        """Return the Euclidean norm of the change."""
        return torch.linalg.vector_norm(delta.flatten(-event_ndim), dim=-1)


@dataclass(frozen=True)
class L1(Ball):
    """The ball of the sum of absolute changes.

    Example:
        >>> L1(1.0, bounds=None).project(torch.tensor([[2.0, 1.5]]), torch.zeros(1, 2))
        tensor([[0.7500, 0.2500]])
    """

    def _shrink(self, size: Tensor, room: Tensor) -> Tensor:
        """Return clip(size - t, 0, room) for the least t >= 0 whose sum is at most the radius.

        The sum falls piecewise linearly in t, so Newton's steps end exactly once they are on the right piece; one that
        leaves the interval known to hold t is replaced by its middle. For images a handful do; what is left then is
        solved by sorting (Duchi et al. 2008; with bounds, Croce and Hein 2021).
        """
        size, room, dtype = size.double(), room.double(), size.dtype
        threshold, high = torch.zeros_like(size[..., :1]), size.amax(-1, keepdim=True)
        low, done = threshold, torch.zeros_like(threshold, dtype=torch.bool)
        for count in range(1, 31):
            left = size - threshold
            over = torch.minimum(left.clamp_min(0), room).sum(-1, keepdim=True) - self.radius
            done = (over.abs() <= 1e-13 * self.radius) | ((over <= 0) & (threshold == 0))
            if (size.is_cpu or count % 10 == 0) and bool(done.all()):  # a look stalls any other device
                break
            low, high = torch.where(over > 0, threshold, low), torch.where(over > 0, high, threshold)
            step = threshold + over / ((left > 0) & (left < room)).sum(-1, keepdim=True).clamp_min(1)
            step = torch.where((step > low) & (step < high), step, (low + high) / 2)
            threshold = torch.where(done, threshold, step)
        else:
            threshold = torch.where(done, threshold, self._by_sorting(size, room))
        shrunk = torch.minimum((size - threshold).clamp_min(0), room)
        rest = self.radius / shrunk.sum(-1, keepdim=True)  # below 1 by rounding alone, after large steps
        return (shrunk * rest.clamp_max(1)).to(dtype)

    def _by_sorting(self, size: Tensor, room: Tensor) -> Tensor:
        """Return t: from size - room on a coordinate takes part, from size on it is zero; the sum is linear between."""
        points, order = torch.cat([size - room, size], -1).sort(-1)
        active = torch.where(order < size.shape[-1], 1, -1).cumsum(-1)
        falls = (points.diff(dim=-1) * active[..., :-1]).cumsum(-1)
        sums = room.sum(-1, keepdim=True) - torch.nn.functional.pad(falls, (1, 0))
        last = ((sums > self.radius).sum(-1, keepdim=True) - 1).clamp_min(0)
        above = (sums.gather(-1, last) - self.radius).clamp_min(0)
        threshold = points.gather(-1, last) + above / active.gather(-1, last).clamp_min(1)
        return threshold.where(sums[..., :1] > self.radius, 0)

    def _draw(self, shape: tuple[int, ...], streams: Streams, event_ndim: int) -> Tensor:
        sign = streams.uniform(shape, batch_dim=1).sub_(0.5).sign()
        exponential = -torch.log1p(-streams.uniform(shape, batch_dim=1))
        rest = -torch.log1p(-streams.uniform((*shape[:-event_ndim], *(1,) * event_ndim), batch_dim=1))
        total = exponential.sum(tuple(range(-event_ndim, 0)), keepdim=True) + rest
        return sign * exponential / total.clamp_min(torch.finfo(total.dtype).tiny)

    def sample_boundary(self, x: Tensor, streams: Streams) -> Tensor:
        """Project normal noise."""
        return self.project(x + streams.normal(tuple(x.shape)).to(x.dtype), x)

    def steepest(self, gradient: Tensor, event_ndim: int) -> Tensor:
        """Return the signed unit vector of the coordinate with the largest gradient."""
        flat = gradient.flatten(-event_ndim)
        top = flat.abs().argmax(-1, keepdim=True)
        return torch.zeros_like(flat).scatter_(-1, top, flat.gather(-1, top).sign()).view_as(gradient)

    def norm(self, delta: Tensor, event_ndim: int) -> Tensor:
        """Return the sum of the absolute changes."""
        return delta.abs().flatten(-event_ndim).sum(-1)
