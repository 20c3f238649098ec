"""Maps of any classifier, also one without gradients: by what it says of images whose parts are hidden."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.explain.attributions import Attributing, check_baseline, logits
from aureole.explain.base import full_precision


@dataclass(frozen=True, kw_only=True)
class Occlusion(Attributing):
    """Occlusion: how much the logit of the class falls when a square window over the pixel is painted over.

    M_p = mean over the windows W that hold p of f_target(x) - f_target(x with all channels in W set to the baseline)

    Attributes:
        window: side of the square in pixels, at least 1; None takes an eighth of the image's shorter side.
        stride: pixels from one window to the next, from 1 to ``window``; None takes half the window. The last windows
            reach beyond the image where the strides do not end at its border.
        baseline: value of the pixels painted over.
        max_batch: most images in one pass, at least 1.

    Example:
        >>> from aureole.explain.perturbed import Occlusion
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> weight, x = model[1].weight[0].view(2, 2), torch.rand(1, 1, 2, 2)
        >>> torch.allclose(Occlusion(window=1)(model, x, torch.tensor([0]))[0], weight * x[0, 0], atol=1e-6)
        True

    Source: Zeiler and Fergus 2014, who look at the probability; here it is the logit, which does not saturate.
    """

    window: int | None = None
    stride: int | None = None
    baseline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_baseline(self.baseline)
        if self.window is not None and self.window < 1:
            raise InputError(f"window must be at least 1 pixel; got {self.window}")
        if self.stride is not None and self.stride < 1:
            raise InputError(f"stride must be at least 1 pixel; got {self.stride}")

    def _maps(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        window, stride = self._sides(min(x.shape[2:]))
        rows, columns = (_windows(side, window, stride).to(x.device) for side in x.shape[2:])
        falls = [self._falls(model, image, label, rows, columns) for image, label in zip(x, target, strict=True)]
        grids = torch.stack(falls)  # (batch, windows from top to bottom, windows from left to right)
        down, across = rows.to(grids), columns.to(grids)
        return down.mT @ grids @ across / (down.sum(0)[:, None] * across.sum(0))

    def _falls(self, model: nn.Module, image: Tensor, label: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return how much the logit of an image falls by each window."""
        numbers = torch.arange(len(rows) * len(columns), device=image.device)
        seen = []
        for part in numbers.split(self.max_batch):
            hidden = rows[part // len(columns), :, None] & columns[part % len(columns), None, :]
            seen.append(logits(model)(torch.where(hidden[:, None], self.baseline, image))[:, label])
        return (logits(model)(image[None])[0, label] - torch.cat(seen)).view(len(rows), len(columns))

    def _sides(self, shorter: int) -> tuple[int, int]:
        """Return window and stride for images with this shorter side."""
        window = math.ceil(shorter / 8) if self.window is None else self.window
        stride = math.ceil(window / 2) if self.stride is None else self.stride
        if window > shorter:
            raise InputError(f"a window of {window} pixels does not fit an image whose shorter side is {shorter}")
        if stride > window:
            raise InputError(
                f"stride must be at most the window, {window} pixels; got {stride}: pixels would be left out"
            )
        return window, stride


def _windows(side: int, window: int, stride: int) -> Bool[Tensor, "windows side"]:
    """Return which pixels of a line each window holds."""
    starts = torch.arange(0, side - window + stride, stride, device="cpu")[:, None]
    places = torch.arange(side, device="cpu")
    return (places >= starts) & (places < starts + window)


@dataclass(frozen=True, kw_only=True)
class RISE(Attributing):
    """RISE: the mean of random masks, each weighted by the probability of the class of the image seen through it.

    M = sum_i m_i p_target(m_i * x) / (num_masks * keep)

    A mask is a grid of cells, each 1 with probability ``keep``, enlarged bilinearly and shifted by up to a cell. The
    masks are the same for all images, and hang on ``seed`` and the size of the image alone.

    Attributes:
        num_masks: at least 1.
        cells: of the grid, in each direction; at least 1 and at most the image's shorter side.
        keep: probability of a cell to be seen, in (0, 1].
        seed: of the masks.
        max_batch: most images in one pass, at least 1.

    Example:
        >>> from aureole.explain.perturbed import RISE
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
        >>> RISE(num_masks=10)(model, torch.rand(3, 1, 16, 16)).shape
        torch.Size([3, 16, 16])

    Source: Petsiuk et al. 2018, Eq. 6, with their 4,000 masks of 7 x 7 cells and keep 0.5.
    """

    num_masks: int = 4000
    cells: int = 7
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.num_masks, self.cells) < 1:
            raise InputError(f"num_masks and cells must be at least 1; got {self.num_masks} and {self.cells}")
        if not 0 < self.keep <= 1:
            raise InputError(f"keep must be in (0, 1]; got {self.keep}")

    def masks(self, height: int, width: int, first: int = 0, last: int | None = None) -> Float[Tensor, "masks h w"]:
        """Return the masks from number ``first`` to before ``last``, on the CPU; all by default.

        Args:
            height: of the image, in pixels.
            width: of the image, in pixels.
            first: number of the first mask.
            last: number after the last mask; None takes ``num_masks``.

        Raises:
            InputError: the image has fewer rows or columns than there are cells.

        Example:
            >>> from aureole.explain.perturbed import RISE
            >>> RISE(num_masks=5).masks(8, 9, 2).shape
            torch.Size([3, 8, 9])
        """
        if self.cells > min(height, width):
            raise InputError(f"{self.cells} cells do not fit an image of {height} x {width} pixels: take fewer")
        numbers = torch.arange(first, self.num_masks if last is None else last, device="cpu")
        streams = Streams.of(self.seed, numbers)
        grids = (streams.uniform((len(numbers), self.cells, self.cells)) < self.keep).float()
        sides = [math.ceil(side / self.cells) for side in (height, width)]
        large = F.interpolate(grids[:, None], size=[(self.cells + 1) * side for side in sides], mode="bilinear")[:, 0]
        shifts = streams.uniform((len(numbers), 2)) * (torch.tensor(sides, device="cpu") + 1)
        top, left = shifts.long().unbind(1)
        rows = top[:, None, None] + torch.arange(height, device="cpu")[:, None]
        columns = left[:, None, None] + torch.arange(width, device="cpu")
        return large[torch.arange(len(numbers), device="cpu")[:, None, None], rows, columns]

    def _maps(self, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        maps = torch.zeros_like(full_precision(x[:, 0]))
        for first in range(0, self.num_masks, self.max_batch):
            last = min(first + self.max_batch, self.num_masks)
            masks = self.masks(x.shape[2], x.shape[3], first, last).to(x)
            for i, image in enumerate(x):
                chances = logits(model)(masks[:, None] * image).softmax(-1)[:, target[i]]
                maps[i] += torch.einsum("m,mhw->hw", chances.to(maps.dtype), masks.to(maps.dtype))
        return maps / (self.num_masks * self.keep)
