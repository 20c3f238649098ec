"""The moves of Square: where its search starts, and how it redraws a window; here in Linf.

See :mod:`aureole.attacks.square`, and :mod:`aureole.attacks.square_bumps` for L2 and L1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from aureole.core.balls import Ball
from aureole.core.random import Streams


class Window(NamedTuple):
    """A window in each row's image.

    Attributes:
        down: how far each line of the image is below the window's first; negative above it.
        right: the same of columns.
        inside: 1 in the window and 0 outside; a product of numbers, which is much faster than one of truth values.
    """

    down: Int64[Tensor, "rows height"]
    right: Int64[Tensor, "rows width"]
    inside: Float[Tensor, "rows 1 height width"]


class Moves(ABC):
    """How the search starts and moves in one geometry, for images of one shape.

    Args:
        ball: where the images lie.
        like: some images, shape (rows, channels, height, width).
        shares: of the image, that windows of each size cover.
    """

    def __init__(self, ball: Ball, like: Float[Tensor, "rows channels height width"], shares: Sequence[float]) -> None:
        self.ball, self.channels, self.extent = ball, like.shape[1], like.shape[2:]
        self.windows = [self.window(share) for share in shares]
        self.sizes = torch.tensor(self.windows, device=like.device)
        self.lines, self.columns = (torch.arange(length, device=like.device) for length in self.extent)
        line = min(self.extent) == 1  # there, every place is used; in images, all but the last, as in the authors' code
        self.room = torch.tensor(self.extent, device=like.device) - self.sizes + int(line)

    def window(self, share: float) -> tuple[int, int]:
        """Return height and width of a window: a square, in an image of one line a segment of the same share."""
        height, width = self.extent
        area = share * height * width
        if min(height, width) == 1:
            length = self.whole(area)
            return min(length, height), min(length, width)
        side = min(self.whole(math.sqrt(area)), height, width)
        return side, side

    def whole(self, side: float) -> int:
        """Return a length as a number of pixels."""
        return max(round(side), 1)

    def place(self, size: Int64[Tensor, " rows"], draws: Float[Tensor, "rows 2"], dtype: torch.dtype) -> Window:
        """Place windows at random.

        Args:
            size: which of the shares each row's window covers.
            draws: uniform numbers, one an axis.
            dtype: of the images.
        """
        corner, extent = (draws * self.room[size]).long(), self.sizes[size]
        down, right = self.lines - corner[:, :1], self.columns - corner[:, 1:]
        height, width = (down >= 0) & (down < extent[:, :1]), (right >= 0) & (right < extent[:, 1:])
        return Window(down, right, height.to(dtype)[:, None, :, None] * width.to(dtype)[:, None, None])

    @abstractmethod
    def start(self, x: Float[Tensor, "rows channels height width"], streams: Streams) -> Tensor:
        """Return where the search starts."""

    @abstractmethod
    def move(
        self,
        x: Float[Tensor, "rows channels height width"],
        x_adv: Float[Tensor, "rows channels height width"],
        size: Int64[Tensor, " rows"],
        streams: Streams,
    ) -> Tensor:
        """Return a candidate near ``x_adv``.

        Args:
            x: images.
            x_adv: the best of each so far.
            size: which of the shares a row's window covers.
            streams: one random stream a row.
        """


def signs(draws: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return signs, as likely -1 as 1, from uniform numbers.

    Example:
        >>> signs(torch.tensor([0.0, 0.4, 0.5]))
        tensor([-1., -1.,  1.])
    """
    return (draws >= 0.5).float().mul_(2).sub_(1)


class Squares(Moves):
    """The moves in Linf: every pixel is ``radius`` above or below the image, before it is clipped to the bounds."""

    def start(self, x: Tensor, streams: Streams) -> Tensor:
        stripes = signs(streams.uniform((len(x), self.channels, 1, self.extent[1])))
        return self.ball.clip(x + self.ball.radius * stripes.to(x.dtype))

    def move(self, x: Tensor, x_adv: Tensor, size: Tensor, streams: Streams) -> Tensor:
        draws = streams.uniform((len(x), 2 + self.channels))
        inside = self.place(size, draws[:, :2], x.dtype).inside
        colour = self.ball.radius * signs(draws[:, 2:]).to(x.dtype)
        return torch.lerp(x_adv, self.ball.clip(x + colour[:, :, None, None]), inside)
