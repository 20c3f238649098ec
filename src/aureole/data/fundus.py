"""Photographs of the retina: find the disk, crop the black background, bring all to one size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional as F

from aureole.core.errors import InputError

_LEAST_DISK = 0.02
_LEAST_LINE = 0.02


@dataclass(frozen=True, kw_only=True)
class Fundus:
    """Crop the black background of a fundus photograph and resize it: the preparation of the thesis.

    The crop is the smallest square around the retina's disk, filled up with black where the camera cut the disk off, so
    that a round disk stays round. Pixels stay bytes; the loader divides them by 255, which gives values in [0, 1].

    Attributes:
        size: height and width of the result, in pixels.
        threshold: what is darker than this share of the picture's bright pixels (their 99th percentile) is background.

    Example:
        >>> from aureole.data.fundus import Fundus
        >>> photograph = torch.zeros(3, 60, 100, dtype=torch.uint8)
        >>> photograph[:, 10:50, 30:70] = 200
        >>> Fundus(size=32)(photograph, "a photograph").float().mean().item()
        200.0

    Source:
        Thesis section 4.4.2 and figure 4.2 (background cropped, 256x256, [0, 1]).
    """

    size: int = 256
    threshold: float = 0.08

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.threshold < 1:
            raise InputError(
                f"size must be at least 1 and threshold between 0 and 1; got {self.size} and {self.threshold}"
            )

    def __call__(
        self, picture: UInt8[Tensor, "channels height width"], where: str
    ) -> UInt8[Tensor, "channels size size"]:
        """Return the prepared photograph; ``where`` names it in a message.

        Raises:
            InputError: no bright disk is in it.
        """
        return self.with_mask(picture, None, where)[0]

    def with_mask(
        self, picture: UInt8[Tensor, "channels height width"], mask: Bool[Tensor, "height width"] | None, where: str
    ) -> tuple[UInt8[Tensor, "channels size size"], Bool[Tensor, "size size"] | None]:
        """Return the prepared photograph, and its mask cropped and resized in the same way.

        A pixel of the new mask is marked where at least half of what it covers was marked; of a mask that would vanish,
        the pixel that covers most of it stays.

        Raises:
            InputError: no bright disk is in the photograph.
        """
        window = self._window(picture, where)
        pixels = _crop_and_resize(picture.float(), window, self.size)
        pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        if mask is None:
            return pixels, None
        covered = _crop_and_resize(mask[None].float(), window, self.size)[0]
        return pixels, covered >= covered.max().clamp(1e-6, 0.5)

    def disk(self, picture: UInt8[Tensor, "channels height width"], where: str) -> Bool[Tensor, "height width"]:
        """Return which pixels belong to the retina: what is bright, and what lies between bright pixels.

        Raises:
            InputError: no bright disk is in the photograph.
        """
        bright = self._bright(picture, where)
        return _between(bright) & _between(bright.mT).mT

    def _bright(self, picture: Tensor, where: str) -> Tensor:
        level = picture.amax(0).float()
        white = level.flatten().sort().values[int(0.99 * (level.numel() - 1))]
        bright = _opened((level >= self.threshold * white) & (level > 2))
        if bright.float().mean() < _LEAST_DISK:
            raise InputError(f"{where} must show a bright disk on a dark background; got an almost black picture")
        return bright

    def _window(self, picture: Tensor, where: str) -> tuple[int, int, int]:
        """Return top, left and side of the square around the disk; it may reach beyond the picture."""
        bright = self._bright(picture, where)
        top, bottom = _extent(bright)
        left, right = _extent(bright.mT)
        side = max(bottom - top, right - left)
        return (top + bottom - side) // 2, (left + right - side) // 2, side


def _opened(bright: Tensor) -> Tensor:
    """Return the mask without its specks: the union of the 3x3 squares in it."""
    inner = -F.max_pool2d(-bright[None].float(), 3, 1, 1)
    return F.max_pool2d(inner, 3, 1, 1)[0] > 0


def _extent(bright: Tensor) -> tuple[int, int]:
    """Return the first row with enough bright pixels, so that specks and writing do not count, and the one behind."""
    rows = (bright.float().mean(1) >= _LEAST_LINE).nonzero().flatten()
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, len(bright))


def _between(bright: Tensor) -> Tensor:
    """Mark in every row what lies between its first and its last bright pixel."""
    return bright.cummax(1).values & bright.flip(1).cummax(1).values.flip(1)


def _crop_and_resize(planes: Tensor, window: tuple[int, int, int], size: int) -> Tensor:
    top, left, side = window
    height, width = planes.shape[1:]
    padded = F.pad(planes, (-left, left + side - width, -top, top + side - height))  # a negative pad crops
    return F.interpolate(padded[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
