"""Random crops, shifts, flips and noise of a whole batch on its device, each image by its own random stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from aureole.core.errors import InputError, unknown_name
from aureole.core.random import Streams

_BORDERS = ("zero", "edge", "reflect")


@runtime_checkable
class Augment(Protocol):
    """Changes images at random; what happens to one depends on its stream alone, not on the rest of the batch."""

    def __call__(
        self, x: Shaped[Tensor, "batch channels height width"], streams: Streams
    ) -> Shaped[Tensor, "batch channels height width"]:
        """Return changed images of the same shape and type; ``x`` itself is not changed."""
        ...


@dataclass(frozen=True)
class RandomCrop:
    r"""Pad with zeros on all sides, then cut out a window of the original size at a random place.

    Args:
        padding: pixels on each side, at least 0; the offset is uniform in {0, ..., 2 padding}\ :sup:`2`.

    Raises:
        InputError: the padding is negative.

    Example:
        >>> x = torch.ones(2, 3, 8, 8, dtype=torch.uint8)
        >>> RandomCrop(padding=2)(x, Streams.of(0, torch.arange(2))).shape
        torch.Size([2, 3, 8, 8])
    """

    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise InputError(f"padding must be at least 0; got {self.padding}")

    def __call__(
        self, x: Shaped[Tensor, "batch channels height width"], streams: Streams
    ) -> Shaped[Tensor, "batch channels height width"]:
        """Return the cropped images."""
        batch, _, height, width = x.shape
        top, left = (streams.uniform((batch, 2)) * (2 * self.padding + 1)).long().unbind(dim=1)
        windows = F.pad(x, [self.padding] * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view of every crop
        return windows[torch.arange(batch, device=x.device), :, top, left]


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Mirror each image left to right with a probability.

    Args:
        probability: in [0, 1].

    Raises:
        InputError: the probability is not in [0, 1].

    Example:
        >>> x = torch.arange(3.0).view(1, 1, 1, 3)
        >>> RandomHorizontalFlip(1.0)(x, Streams.of(0, torch.arange(1))).flatten().tolist()
        [2.0, 1.0, 0.0]
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise InputError(f"probability must be in [0, 1]; got {self.probability}")

    def __call__(
        self, x: Shaped[Tensor, "batch channels height width"], streams: Streams
    ) -> Shaped[Tensor, "batch channels height width"]:
        """Return the images, some of them mirrored."""
        mirrored = streams.uniform((len(x), 1, 1, 1)) < self.probability
        return torch.where(mirrored, x.flip(3), x)


@dataclass(frozen=True)
class RandomTranslation:
    r"""Shift each image by whole pixels.

    Args:
        max_shift: pixels, at least 0; the shift is uniform in {-max_shift, ..., max_shift}\ :sup:`2`.
        border: what comes in from outside: ``"zero"``, the nearest ``"edge"`` pixel, or the image's own reflection in
            its outermost pixels, ``"reflect"``.

    Raises:
        InputError: the shift is negative, or the border has another name.

    Example:
        >>> x = torch.ones(2, 1, 8, 8, dtype=torch.uint8)
        >>> bool((RandomTranslation(2, border="edge")(x, Streams.of(0, torch.arange(2))) == x).all())
        True

    Source: zeros up to 2 pixels for MNIST and SVHN: Laine and Aila 2017, section 3.2; reflections up to 4 pixels
    (12.5 % of 32): Sohn et al. 2020 (FixMatch), section 2.3.
    """

    max_shift: int = 2
    border: str = "zero"

    def __post_init__(self) -> None:
        if self.max_shift < 0:
            raise InputError(f"max_shift must be at least 0; got {self.max_shift}")
        if self.border not in _BORDERS:
            raise unknown_name("border", self.border, _BORDERS)

    def __call__(
        self, x: Shaped[Tensor, "batch channels height width"], streams: Streams
    ) -> Shaped[Tensor, "batch channels height width"]:
        """Return the shifted images."""
        batch, _, height, width = x.shape
        shift = (streams.uniform((batch, 2)) * (2 * self.max_shift + 1)).long() - self.max_shift
        row, row_inside = self._source(shift[:, :1], height)
        column, column_inside = self._source(shift[:, 1:], width)
        places = (row[:, :, None] * width + column[:, None, :]).view(batch, 1, -1)
        out = x.flatten(2).gather(2, places.expand(-1, x.shape[1], -1)).view(x.shape)
        if self.border != "zero":
            return out
        return out * (row_inside[:, :, None] & column_inside[:, None, :])[:, None]

    def _source(self, shift: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return where the pixels of a side of ``size`` come from, and which of them from inside; (batch, size)."""
        place = torch.arange(size, device=shift.device) - shift
        inside = (place >= 0) & (place < size)
        if self.border == "reflect":
            place = size - 1 - (size - 1 - place.abs()).abs()
        return place.clamp(0, size - 1), inside


@dataclass(frozen=True)
class GaussianNoise:
    """Add independent normal noise to every pixel and cut what leaves the range of the images.

    Args:
        std: standard deviation in units of the whole range, 1 for white less black, at least 0; images of integers
            are rounded to the nearest level.

    Raises:
        InputError: the standard deviation is negative.

    Example:
        >>> x = torch.full((2, 1, 8, 8), 128, dtype=torch.uint8)
        >>> GaussianNoise(0.15)(x, Streams.of(0, torch.arange(2))).dtype
        torch.uint8

    Source: standard deviation 0.15 at the input: Laine and Aila 2017, table 5.
    """

    std: float = 0.15

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise InputError(f"std must be at least 0; got {self.std}")

    def __call__(
        self, x: Shaped[Tensor, "batch channels height width"], streams: Streams
    ) -> Shaped[Tensor, "batch channels height width"]:
        """Return the noisy images."""
        noise = streams.normal(tuple(x.shape)) * self.std
        if x.is_floating_point():
            return (x + noise.to(x.dtype)).clamp(0, 1)
        return noise.mul_(255).add_(x).round_().clamp_(0, 255).to(x.dtype)
