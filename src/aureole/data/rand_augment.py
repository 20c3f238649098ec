"""The strong views of FixMatch: random operations of random strength on each image, and a square cut out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from aureole.core.errors import InputError, unknown_name
from aureole.core.random import Streams
from aureole.data.operations import OPERATIONS


@dataclass(frozen=True)
class RandAugment:
    """Change each image by operations drawn at random from a pool, one after the other, each with a random strength.

    All images that drew an operation are changed by it at once.

    Args:
        num_operations: how many are drawn for each image, with replacement, at least 0.
        probability: with which a drawn operation is carried out, in [0, 1].
        fill: level of the pixels that come from outside the image, 0 to 255.
        pool: names of :data:`~aureole.data.operations.OPERATIONS`.

    Raises:
        InputError: a number is out of its range, a name is not in the pool, or, later, the images are not uint8 with
            1 or 3 channels.

    Example:
        >>> x = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> RandAugment(num_operations=2)(x, Streams.of(0, torch.arange(4))).shape
        torch.Size([4, 3, 8, 8])

    Source: Sohn et al. 2020 (FixMatch), section 2.3 and appendix D: 2 operations, a strength drawn anew for each; its
    authors' code carries each out with probability 1/2, which the paper does not say, and fills with mid-grey.
    """

    num_operations: int = 2
    probability: float = 0.5
    fill: int = 127
    pool: tuple[str, ...] = tuple(OPERATIONS)

    def __post_init__(self) -> None:
        if self.num_operations < 0:
            raise InputError(f"num_operations must be at least 0; got {self.num_operations}")
        if not 0 <= self.probability <= 1:
            raise InputError(f"probability must be in [0, 1]; got {self.probability}")
        _check_fill(self.fill)
        if not self.pool:
            raise InputError(f"pool must name at least one operation, such as {next(iter(OPERATIONS))!r}; got none")
        for name in self.pool:
            if name not in OPERATIONS:
                raise unknown_name("operation", name, OPERATIONS)

    def __call__(
        self, x: Shaped[Tensor, "batch channels height width"], streams: Streams
    ) -> UInt8[Tensor, "batch channels height width"]:
        """Return the changed images."""
        if x.dtype != torch.uint8 or x.shape[1] not in (1, 3):
            raise InputError(
                f"RandAugment changes uint8 images with 1 or 3 channels; got {x.dtype} with {x.shape[1]} channels"
            )
        which, carried_out, strength = streams.uniform((len(x), 3, self.num_operations)).unbind(1)
        drawn = (which * len(self.pool)).long()
        drawn = torch.where(carried_out < self.probability, drawn, len(self.pool))  # the last number is for none
        rows = drawn.argsort(dim=0, stable=True)
        counts = (drawn[..., None] == torch.arange(len(self.pool) + 1, device=x.device)).sum(0).tolist()
        out = x.clone()
        for turn in range(self.num_operations):
            groups = rows[:, turn].split(counts[turn])[:-1]
            for name, group in zip(self.pool, groups, strict=True):
                if len(group) and name != "identity":
                    operation = OPERATIONS[name]
                    share = strength[group, turn]
                    amount = operation.low + (operation.high - operation.low) * share
                    out[group] = operation.apply(out[group], amount, self.fill)
        return out


@dataclass(frozen=True)
class Cutout:
    """Paint a square of each image in one level; its centre is uniform, so that a part may lie outside.

    Args:
        size: side of the square, as a part of the image's shorter side, in [0, 1]; rounded to whole pixels.
        fill: the level, 0 to 255.

    Raises:
        InputError: a number is out of its range, or, later, the images are not uint8.

    Example:
        >>> x = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> bool((Cutout()(x, Streams.of(0, torch.arange(2))) == 127).flatten(1).any(1).all())
        True

    Source: DeVries and Taylor 2017; 16 of 32 pixels in mid-grey in the code of Sohn et al. 2020 (FixMatch).
    """

    size: float = 0.5
    fill: int = 127

    def __post_init__(self) -> None:
        if not 0 <= self.size <= 1:
            raise InputError(f"size must be in [0, 1], a part of the shorter side; got {self.size}")
        _check_fill(self.fill)

    def __call__(
        self, x: Shaped[Tensor, "batch channels height width"], streams: Streams
    ) -> UInt8[Tensor, "batch channels height width"]:
        """Return the images, each with its square."""
        if x.dtype != torch.uint8:
            raise InputError(f"Cutout changes uint8 images; got {x.dtype}")
        height, width = x.shape[2:]
        side = round(self.size * min(height, width))
        place = streams.uniform((len(x), 2, 1))
        row = _covered(place[:, 0], height, side)
        column = _covered(place[:, 1], width, side)
        return x.masked_fill((row[:, :, None] & column[:, None, :])[:, None], self.fill)


def _covered(place: Tensor, length: int, side: int) -> Tensor:
    """Return which of ``length`` pixels lie in a stretch of ``side`` around each place, (batch, length)."""
    first = (place * length).long() - side // 2
    pixels = torch.arange(length, device=place.device)
    return (pixels >= first) & (pixels < first + side)


def _check_fill(fill: int) -> None:
    if not 0 <= fill <= 255:
        raise InputError(f"fill must be a level from 0 to 255; got {fill}")
