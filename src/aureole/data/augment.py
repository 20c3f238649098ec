"""Random crops and flips of a whole batch on its device, each image by its own random stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams


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
