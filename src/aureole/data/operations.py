"""Changes of pictures, each of a whole batch with a strength an image: the pool that RandAugment draws from.

They work on integers as Pillow does, so that they give its grey levels, on any device. ``x`` is always uint8 of shape
(batch, channels, height, width) with 1 channel (grey) or 3 (red, green, blue), and is not changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

Pictures = UInt8[Tensor, "batch channels height width"]
Strength = Shaped[Tensor, " batch"]

_UNIT = 2**16


def grey(x: Pictures) -> UInt8[Tensor, "batch 1 height width"]:
    """Return the luma, 0.299 red + 0.587 green + 0.114 blue, rounded; grey pictures are their own.

    Source: ITU-R BT.601, in the 16-bit fixed point of Pillow's conversion to ``"L"``.
    """
    if x.shape[1] == 1:
        return x
    red, green, blue = x.int().split(1, dim=1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 2**15) >> 16).to(torch.uint8)


def blend(start: Shaped[Tensor, "batch #channels #height #width"], x: Pictures, factor: Strength) -> Pictures:
    """Return ``start + factor (x - start)``, cut to 0 to 255 and rounded down; a factor of 1 leaves ``x``."""
    start = start.float()
    return (start + factor.view(-1, 1, 1, 1) * (x - start)).clamp_(0, 255).to(torch.uint8)


def brightness(x: Pictures, factor: Strength) -> Pictures:
    """Blend with black."""
    return blend(x.new_zeros(len(x), 1, 1, 1), x, factor)


def colour(x: Pictures, factor: Strength) -> Pictures:
    """Blend with the grey picture; a grey picture stays as it is."""
    return x.clone() if x.shape[1] == 1 else blend(grey(x), x, factor)


def contrast(x: Pictures, factor: Strength) -> Pictures:
    """Blend with the mean luma of the picture, rounded."""
    pixels = x.shape[2] * x.shape[3]
    total = grey(x).sum((1, 2, 3), keepdim=True)
    return blend((2 * total + pixels) // (2 * pixels), x, factor)


def sharpness(x: Pictures, factor: Strength) -> Pictures:
    """Blend with the smoothed picture: every pixel that is not at the border becomes (its 8 neighbours + 5 it) / 13."""
    levels = x.short()
    rows = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * levels[:, :, 1:-1, 1:-1]
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = (total.float() / 13).round_().to(torch.uint8)
    return blend(smooth, x, factor)


def autocontrast(x: Pictures) -> Pictures:
    """Stretch every channel so that its darkest pixel is 0 and its lightest 255; a channel of one level stays."""
    low, high = x.amin((2, 3), keepdim=True).int(), x.amax((2, 3), keepdim=True).int()
    stretched = (x - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, stretched.to(torch.uint8), x)


def equalise(x: Pictures) -> Pictures:
    """Map the levels of every channel so that they are used as evenly as they can be.

    With h the histogram and s the number of pixels below the lightest level, divided by 255 and rounded down, level i
    becomes (s / 2 + h_0 + ... + h_{i-1}) / s, rounded down; a channel with s = 0 stays as it is.
    """
    levels = x.flatten(2).long()
    histogram = levels.new_zeros(*x.shape[:2], 256)
    histogram.scatter_add_(2, levels, levels.new_ones(()).expand_as(levels))
    lightest = histogram.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - lightest) // 255
    table = (step // 2 + histogram.cumsum(2) - histogram) // step.clamp(min=1)
    equal = table.clamp_(max=255).gather(2, levels).to(torch.uint8).view(x.shape)
    return torch.where((step > 0)[..., None], equal, x)


def posterise(x: Pictures, bits: Strength) -> Pictures:
    """Keep the ``bits`` highest of the 8 bits of every level; ``bits``, from 1 to 8, is rounded down."""
    mask = 256 - 2 ** (8 - bits.long().clamp(1, 8))
    return x & mask.to(torch.uint8).view(-1, 1, 1, 1)


def solarise(x: Pictures, threshold: Strength) -> Pictures:
    """Invert all levels from ``threshold`` on, a level from 0 to 256."""
    return torch.where(x < threshold.view(-1, 1, 1, 1), x, 255 - x)


def affine(x: Pictures, matrix: Float[Tensor, "batch 6"], fill: int) -> Pictures:
    """Take the pixel at column x and row y from column a x + b y + c, row d x + e y + f: the nearest one.

    Args:
        x: the pictures.
        matrix: (a, b, c, d, e, f) of each; pixels are centred on halves: the first at (1/2, 1/2).
        fill: level of the pixels that come from outside.
    """
    batch, channels, height, width = x.shape
    matrix = matrix.double().clone()
    matrix[:, 2::3] += (matrix[:, 0::3] + matrix[:, 1::3]) / 2
    a, b, c, d, e, f = (matrix * _UNIT + 0.5).floor().long()[..., None, None].unbind(1)  # fixed point, as Pillow
    row, column = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    source_column, source_row = (a * column + b * row + c) >> 16, (d * column + e * row + f) >> 16
    inside = (source_column >= 0) & (source_column < width) & (source_row >= 0) & (source_row < height)
    places = source_row.clamp_(0, height - 1) * width + source_column.clamp_(0, width - 1)
    out = x.flatten(2).gather(2, places.view(batch, 1, -1).expand(-1, channels, -1)).view(x.shape)
    return out.masked_fill_(~inside[:, None], fill)


def rotate(x: Pictures, degrees: Strength, fill: int) -> Pictures:
    """Turn the pictures counter-clockwise about their centres."""
    angle = -degrees.double() * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    column, row = x.shape[3] / 2, x.shape[2] / 2
    entries = (cos, sin, column - cos * column - sin * row, -sin, cos, row + sin * column - cos * row)
    return affine(x, torch.stack(entries, dim=1), fill)


def shear(x: Pictures, slope_x: Strength | float, slope_y: Strength | float, fill: int) -> Pictures:
    """Take the pixel at column x and row y from column x + slope_x y, row y + slope_y x."""
    return affine(x, _matrix(x, {1: slope_x, 3: slope_y}), fill)


def translate(x: Pictures, part_x: Strength | float, part_y: Strength | float, fill: int) -> Pictures:
    """Take every pixel from ``part_x`` of the width further right, and ``part_y`` of the height further down."""
    return affine(x, _matrix(x, {2: part_x * x.shape[3], 5: part_y * x.shape[2]}), fill)


def _matrix(x: Tensor, changes: Mapping[int, Tensor | float]) -> Tensor:
    """Return the matrices that leave pictures alone, but for these entries."""
    matrix = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64, device=x.device).repeat(len(x), 1)
    for entry, value in changes.items():
        matrix[:, entry] = value
    return matrix


@dataclass(frozen=True)
class Operation:
    """A change of pictures with a strength in a range.

    Attributes:
        apply: takes the pictures, a strength for each, and the level for pixels from outside.
        low: smallest strength.
        high: largest strength.
    """

    apply: Callable[[Tensor, Tensor, int], Tensor]
    low: float = 0.0
    high: float = 1.0


#: The pool of FixMatch by name, with the range of each strength: Sohn et al. 2020, table 12.
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "autocontrast": Operation(lambda x, strength, fill: autocontrast(x)),
        "brightness": Operation(lambda x, strength, fill: brightness(x, strength), 0.05, 0.95),
        "colour": Operation(lambda x, strength, fill: colour(x, strength), 0.05, 0.95),
        "contrast": Operation(lambda x, strength, fill: contrast(x, strength), 0.05, 0.95),
        "equalise": Operation(lambda x, strength, fill: equalise(x)),
        "identity": Operation(lambda x, strength, fill: x),
        "posterise": Operation(lambda x, strength, fill: posterise(x, strength), 4.0, 9.0),  # 4 to 8 bits
        "rotate": Operation(rotate, -30.0, 30.0),
        "sharpness": Operation(lambda x, strength, fill: sharpness(x, strength), 0.05, 0.95),
        "shear-x": Operation(lambda x, strength, fill: shear(x, strength, 0.0, fill), -0.3, 0.3),
        "shear-y": Operation(lambda x, strength, fill: shear(x, 0.0, strength, fill), -0.3, 0.3),
        "solarise": Operation(lambda x, strength, fill: solarise(x, strength), 0.0, 256.0),
        "translate-x": Operation(lambda x, strength, fill: translate(x, strength, 0.0, fill), -0.3, 0.3),
        "translate-y": Operation(lambda x, strength, fill: translate(x, 0.0, strength, fill), -0.3, 0.3),
    }
)
