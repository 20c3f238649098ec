"""Turns, flips and zooms of slices, all of a batch in one look-up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.data.scans.training_scans import TrainingScans


@dataclass(frozen=True, kw_only=True)
class SliceAugment:
    """Turn slices at random and zoom them to one size, image and label together, always to the nearest voxel.

    One of three things happens to a slice: with probability ``turn`` a turn by 0, 90, 180 or 270 degrees and then a
    flip of rows or of columns; with probability ``rotate`` a rotation by whole degrees, -max_degrees to
    max_degrees - 1, with 0 from outside; else nothing. Then it is zoomed. Voxel by voxel this is what ``numpy.rot90``,
    ``numpy.flip``, ``scipy.ndimage.rotate`` and ``scipy.ndimage.zoom`` of order 0 give one after another.

    Attributes:
        patch_size: height and width of the result.
        turn: probability in [0, 1].
        rotate: probability in [0, 1]; 0.25 as in SS-Net and MC-Net, 0.5 as in SSL4MIS.
        max_degrees: of the rotation, at least 1.

    Raises:
        InputError: a number is out of its range, or the two probabilities exceed 1 together.

    Example:
        >>> from aureole.data.scans import ScanData, SliceAugment
        >>> scans = ScanData().train_and_validation().train
        >>> index = torch.tensor([0, 5])
        >>> x, y = SliceAugment(patch_size=(32, 32))(scans, index, Streams.of(0, index))
        >>> x.shape, y.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 32, 32]))

    Source: the ``RandomGenerator`` of SSL4MIS and SS-Net.
    """

    patch_size: tuple[int, int] = (256, 256)
    turn: float = 0.5
    rotate: float = 0.25
    max_degrees: int = 20

    def __post_init__(self) -> None:
        if min(self.patch_size) < 1 or len(self.patch_size) != 2:
            raise InputError(f"patch_size of slices must be a height and a width of at least 1; got {self.patch_size}")
        if min(self.turn, self.rotate) < 0 or self.turn + self.rotate > 1 or self.max_degrees < 1:
            raise InputError(
                "turn and rotate must be probabilities with a sum of at most 1, and max_degrees at least 1; "
                f"got {self.turn}, {self.rotate} and {self.max_degrees}"
            )

    def __call__(
        self, scans: TrainingScans, index: Int64[Tensor, " batch"], streams: Streams, *, with_label: bool = True
    ) -> tuple[Float32[Tensor, "batch channels height width"], Int64[Tensor, "batch height width"] | None]:
        """Return the slices at these places, with their labels if they are wanted.

        Args:
            scans: slices.
            index: places of slices, on the CPU; of labelled ones if labels are wanted.
            streams: one an example, on the CPU.
            with_label: whether to return labels.
        """
        if scans.dimensions != 2:
            raise InputError(f"{scans.name} holds volumes; SliceAugment takes slices: use CropAugment")
        device = scans.voxels.device
        start, height, width = scans.table[index.to(device)].unbind(1)
        row, column, inside = self._source(streams.uniform((len(index), 4)).to(device), height, width)
        places = (start[:, None, None] + row * width[:, None, None] + column).masked_fill_(~inside, 0)
        image = scans.voxels[:, places].movedim(0, 1).float().masked_fill_(~inside[:, None], 0)
        if not with_label:
            return image, None
        return image, scans.labels[places].long().masked_fill_(~inside, 0)

    def _source(
        self, draw: Float32[Tensor, "batch 4"], height: Int64[Tensor, " batch"], width: Int64[Tensor, " batch"]
    ) -> tuple[Int64[Tensor, "batch h w"], Int64[Tensor, "batch h w"], Bool[Tensor, "batch h w"]]:
        """Return from which row and column each pixel of the result comes, and whether that is inside."""
        kind, quarter, side, angle = draw.unbind(1)
        turned = kind < self.turn
        rotated = ~turned & (kind < self.turn + self.rotate)
        quarters = torch.where(turned, (quarter * 4).long(), 0)
        degrees = torch.where(rotated, (angle * (2 * self.max_degrees)).floor() - self.max_degrees, 0)
        odd = quarters % 2 == 1
        turned_height, turned_width = torch.where(odd, width, height), torch.where(odd, height, width)
        row, rows_inside = _zoomed(turned_height, self.patch_size[0])
        column, columns_inside = _zoomed(turned_width, self.patch_size[1])
        row = torch.where((turned & (side < 0.5))[:, None], turned_height[:, None] - 1 - row, row)
        column = torch.where((turned & (side >= 0.5))[:, None], turned_width[:, None] - 1 - column, column)
        place = _unturned(row, column, quarters, height, width)
        row, column, inside = _unrotated(*place, degrees, height, width)
        return row, column, inside & rows_inside[:, :, None] & columns_inside[:, None]


def _zoomed(length: Int64[Tensor, " batch"], size: int) -> tuple[Int64[Tensor, "b size"], Bool[Tensor, "b size"]]:
    """Return which pixel of a side each of ``size`` pixels comes from, and whether it is one.

    The outermost pixels meet, halves go up. As in scipy, the last place may be rounded to behind the last pixel.
    """
    last = (length - 1).double()[:, None]
    place = torch.arange(size, dtype=torch.float64, device=length.device) * (last / max(size - 1, 1))
    return (place + 0.5).floor().long(), place <= last


def _unturned(
    row: Int64[Tensor, "batch h"],
    column: Int64[Tensor, "batch w"],
    quarters: Int64[Tensor, " batch"],
    height: Int64[Tensor, " batch"],
    width: Int64[Tensor, " batch"],
) -> tuple[Int64[Tensor, "batch h w"], Int64[Tensor, "batch h w"]]:
    """Return where pixels were before so many quarter turns counter-clockwise."""
    quarters, height, width = (value[:, None, None] for value in (quarters, height, width))
    odd = quarters % 2 == 1
    down, along = torch.where(odd, column[:, None], row[:, :, None]), torch.where(odd, row[:, :, None], column[:, None])
    down = torch.where(quarters >= 2, height - 1 - down, down)
    return down, torch.where((quarters == 1) | (quarters == 2), width - 1 - along, along)


def _unrotated(
    row: Int64[Tensor, "batch h w"],
    column: Int64[Tensor, "batch h w"],
    degrees: Float32[Tensor, " batch"],
    height: Int64[Tensor, " batch"],
    width: Int64[Tensor, " batch"],
) -> tuple[Int64[Tensor, "batch h w"], Int64[Tensor, "batch h w"], Bool[Tensor, "batch h w"]]:
    """Return where pixels were before a rotation about the middle, and whether that is inside."""
    angle = torch.deg2rad(degrees.double())[:, None, None]
    cos, sin = angle.cos(), angle.sin()
    bottom, right = (height - 1).double()[:, None, None], (width - 1).double()[:, None, None]
    down = cos * row + sin * column + (bottom - (cos * bottom + sin * right)) / 2
    along = cos * column - sin * row + (right - (cos * right - sin * bottom)) / 2
    inside = (down >= 0) & (down <= bottom) & (along >= 0) & (along <= right)
    return (down + 0.5).floor().long(), (along + 0.5).floor().long(), inside
