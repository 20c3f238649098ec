"""Square in L2 and L1: a window takes over the perturbation of another one, in the shape of two opposite hills.

    new  = sign * bump + delta_1 / |delta_1|               in window 1, for each channel
    new  = new / |new| * amplitude,    amplitude^q = max(radius^q - |delta|^q, 0) / channels + |delta_12|^q
    next = new in window 1, 0 in the rest of window 2, delta elsewhere; moved to the ball

with delta_1 the perturbation in window 1, delta_12 that in either window, and q = 2 in L2 and 1 in L1. A bump is a hill
in one half of the window and a hollow in the other, side by side or one above the other. The search starts from a
tiling of the image by five by five bumps.

Andriushchenko et al. 2020, Algorithm 3; for L1, Croce and Hein 2021, whose code multiplies the amplitude once more by
the number of channels, and projects the result. Both as in AutoAttack, but for what its tiles leave over: here it is
shared by both sides, so that images of any shape work; there, tiles leave the image at some heights below 25.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from aureole.attacks.square_moves import Moves, Window, signs
from aureole.core.balls import Ball
from aureole.core.random import Streams


def hill(height: int, width: int, exponent: int) -> Float[Tensor, "height width"]:
    """Return sum_{k >= r} 1 / (k + 1)^exponent, with r each pixel's distance from the middle, in king's moves.

    Example:
        >>> hill(1, 5, 2)
        tensor([[0.1111, 0.3611, 1.3611, 0.3611, 0.1111]])
    """
    down, right = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    terms = torch.arange(1, max(height, width) // 2 + 2).float().pow(-exponent)
    return terms.flip(0).cumsum(0).flip(0)[torch.maximum(down[:, None], right)]


class Bumps(Moves):
    """The moves in L2."""

    order: ClassVar[int] = 2
    exponent: ClassVar[int] = 2

    def __init__(self, ball: Ball, like: Tensor, shares: Sequence[float]) -> None:
        super().__init__(ball, like, shares)
        self.frame = [max(window[axis] for window in self.windows) + 2 for axis in (0, 1)]
        table = torch.zeros(len(self.windows), 2, *self.frame)  # each in a frame of zeros, for all that is outside it
        for place, window in zip(table, self.windows, strict=True):
            place[:, 1 : window[0] + 1, 1 : window[1] + 1] = self.bump(*window)
        tile, tiling = self._tiles()
        self.num_tiles = int(tile.max()) + 1
        self.table, self.tile, self.tiling = table.flatten().to(like), tile.to(like.device), tiling.to(like)

    def whole(self, side: float) -> int:
        return max(round(side), 3) | 1

    def land(self, x: Tensor, delta: Tensor) -> Tensor:
        """Return the image with this perturbation, at the radius, then clipped to the bounds."""
        return self.ball.clip(x + delta * (self.ball.radius / self._norm(delta, (1, 2, 3))))

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        upright = streams.uniform((len(x), self.num_tiles)) < 0.5
        sign = signs(streams.uniform((len(x), self.channels, self.num_tiles))).to(x.dtype)
        pattern = torch.where(upright[:, self.tile], *self.tiling)
        return self.land(x, pattern[:, None] * sign[:, :, self.tile])

    def move(self, x: Tensor, x_adv: Tensor, size: Tensor, streams: Streams) -> Tensor:
        draws = streams.uniform((len(x), 5 + self.channels))
        first, second = (self.place(size, draws[:, i : i + 2], x.dtype) for i in (0, 2))
        bump = self._look_up(2 * size + (draws[:, 4] < 0.5), first)
        sign = signs(draws[:, 5:]).to(x.dtype)[:, :, None, None]
        delta = x_adv - x
        old, held = delta * first.inside, delta * torch.maximum(first.inside, second.inside)
        new = old.div_(self._norm(old, (2, 3))).add_(bump * sign)
        room = (self.ball.radius**self.order - self._norm(delta, (1, 2, 3)) ** self.order).clamp_min(0)
        amplitude = (room / self.channels + self._norm(held, (2, 3)) ** self.order) ** (1 / self.order)
        new.mul_(self.louder(amplitude) / self._norm(new, (2, 3)))
        return self.land(x, delta.sub_(held).add_(new))

    def louder(self, amplitude: Tensor) -> Tensor:
        """Return the amplitude that the authors' code uses for this one."""
        return amplitude

    def bump(self, height: int, width: int) -> Float[Tensor, "2 height width"]:
        """Return the bump of a window, of norm 1: its halves one above the other, and side by side."""
        if height < width:  # a line
            return self.bump(width, height).mT
        upper, lower = (hill(half, width, self.exponent) for half in (height // 2, height - height // 2))
        bump = torch.cat([upper / self._norm(upper, (0, 1)), -lower / self._norm(lower, (0, 1))])
        bump = bump / self._norm(bump, (0, 1))
        return torch.stack([bump, bump.mT if height == width else bump])

    def _norm(self, delta: Tensor, dims: tuple[int, ...]) -> Tensor:
        """Return norms that may be divided by."""
        norm = torch.linalg.vector_norm(delta, self.order, dims, keepdim=True)
        return norm.clamp_min(torch.finfo(norm.dtype).tiny)

    def _look_up(self, which: Int64[Tensor, " rows"], window: Window) -> Float[Tensor, "rows 1 height width"]:
        """Return the bump of each row where its window is, and zero around it."""
        line = which[:, None] * self.frame[0] + window.down.clamp(-1, self.frame[0] - 2) + 1
        column = window.right.clamp(-1, self.frame[1] - 2) + 1
        place = (line * self.frame[1]).int()[:, None, :, None] + column.int()[:, None, None]
        return self.table.index_select(0, place.flatten()).view_as(place)

    def _tiles(self) -> tuple[Int64[Tensor, "height width"], Float[Tensor, "2 height width"]]:
        """Return the number of each pixel's tile, and the two patterns of bumps in all tiles; zero outside of them."""
        side = max(min(self.extent) // 5, 1)
        counts = [length // side for length in self.extent]
        lines = [torch.arange(length) - length % side // 2 for length in self.extent]
        at = [(line // side).clamp(0, count - 1) for line, count in zip(lines, counts, strict=True)]
        inside = [((line >= 0) & (line < side * count)) for line, count in zip(lines, counts, strict=True)]
        bump = self.bump(side, side)[:, (lines[0] % side)[:, None], lines[1] % side]
        return at[0][:, None] * counts[1] + at[1], bump * (inside[0][:, None] & inside[1])


class SharpBumps(Bumps):
    """The moves in L1: the same with steeper hills."""

    order: ClassVar[int] = 1
    exponent: ClassVar[int] = 4

    def louder(self, amplitude: Tensor) -> Tensor:
        return self.channels * amplitude

    def land(self, x: Tensor, delta: Tensor) -> Tensor:
        """Return the nearest image in the ball and the bounds."""
        return self.ball.project(x + delta, x)
