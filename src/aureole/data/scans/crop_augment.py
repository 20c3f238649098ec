"""Random windows of volumes, turned and flipped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.random import Streams
from aureole.data.scans.training_scans import TrainingScans


@dataclass(frozen=True, kw_only=True)
class CropAugment:
    """Turn and flip volumes at random and cut out a window of each, image and label together.

    The turn, by 0, 90, 180 or 270 degrees, and the flip are in the plane of the first two axes. Where any axis of the
    volume is not longer than the window, all axes get max((window - length) // 2 + 3, 0) zeros on both sides: a volume
    smaller than the window is padded, not refused. The window begins at 0 to length - window - 1.

    Attributes:
        patch_size: of the window.
        turn: whether to turn and flip; always so in the published code.

    Raises:
        InputError: a side of the window is below 1.

    Example:
        >>> from aureole.data.scans import CropAugment, ScanData
        >>> scans = ScanData(source="phantom-atrium", num_labelled=2).train_and_validation().train
        >>> index = torch.tensor([1, 0])
        >>> x, y = CropAugment(patch_size=(32, 32, 64))(scans, index, Streams.of(0, index))
        >>> x.shape, y.shape
        (torch.Size([2, 1, 32, 32, 64]), torch.Size([2, 32, 32, 64]))

    Source: ``RandomRotFlip`` and ``RandomCrop`` of UA-MT and SS-Net.
    """

    patch_size: tuple[int, int, int] = (112, 112, 80)
    turn: bool = True

    def __post_init__(self) -> None:
        if min(self.patch_size) < 1 or len(self.patch_size) != 3:
            raise InputError(f"patch_size of volumes must be three lengths of at least 1; got {self.patch_size}")

    def __call__(
        self, scans: TrainingScans, index: Int64[Tensor, " batch"], streams: Streams, *, with_label: bool = True
    ) -> tuple[Float32[Tensor, "batch channels d1 d2 d3"], Int64[Tensor, "batch d1 d2 d3"] | None]:
        """Return windows of the volumes at these places, with their labels if they are wanted.

        Args:
            scans: volumes.
            index: places of volumes, on the CPU; of labelled ones if labels are wanted.
            streams: one an example, on the CPU.
            with_label: whether to return labels.
        """
        if scans.dimensions != 3:
            raise InputError(f"{scans.name} holds slices; CropAugment takes volumes: use SliceAugment")
        draws = streams.uniform((len(index), 5)).tolist()
        images, labels = [], []
        for place, draw in zip(index.tolist(), draws, strict=True):
            images.append(self._cut(scans.image(place), draw))
            if with_label:
                labels.append(self._cut(scans.label(place)[None], draw)[0])
        return torch.stack(images).float(), torch.stack(labels).long() if with_label else None

    def _cut(self, volume: Shaped[Tensor, "c a b d"], draw: list[float]) -> Shaped[Tensor, "c d1 d2 d3"]:
        """Return the window that five numbers in [0, 1) decide: the cut comes first, as it leaves less to turn."""
        flips: list[int] = []
        if self.turn:
            quarters, side = int(draw[0] * 4), int(draw[1] * 2)
            volume = volume.transpose(1, 2) if quarters % 2 else volume
            flipped = {1: (0,), 2: (0, 1), 3: (1,)}.get(quarters, ())  # of the transposed volume
            flips = [axis for axis in (0, 1) if (axis in flipped) != (axis == side)]
        lengths, pads = self._padded(volume.shape[1:])
        window = volume.new_zeros(len(volume), *self.patch_size)
        source, target = [slice(None)], [slice(None)]
        for axis, (length, pad, size) in enumerate(zip(lengths, pads, self.patch_size, strict=True)):
            start = int(draw[2 + axis] * (length - size))
            start = (length - size - start if axis in flips else start) - pad
            low, high = max(start, 0), min(start + size, length - 2 * pad)
            source.append(slice(low, max(high, low)))
            target.append(slice(low - start, max(high, low) - start))
        window[tuple(target)] = volume[tuple(source)]
        return window.flip([1 + axis for axis in flips])

    def _padded(self, lengths: tuple[int, ...]) -> tuple[list[int], list[int]]:
        """Return the lengths of the axes after padding, and how much is padded on each of both sides."""
        pads = [0, 0, 0]
        if any(length <= size for length, size in zip(lengths, self.patch_size, strict=True)):
            pads = [max((size - n) // 2 + 3, 0) for n, size in zip(lengths, self.patch_size, strict=True)]
        return [length + 2 * pad for length, pad in zip(lengths, pads, strict=True)], pads
