"""One scan: its voxels, the class of each voxel where a person drew them, and where it lies in the room."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from aureole.core.errors import InputError, unknown_name

#: How voxels may be scaled: not at all, to [0, 1], or to mean 0 and standard deviation 1; each scan by itself.
SCALINGS = ("none", "unit", "z-score")


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan:
    """A volume, or a single slice of one.

    Attributes:
        name: what a person calls it, such as ``"patient001_frame01"``.
        image: float32, finite, shape (channels, d1, d2, d3), or (channels, height, width) for a slice.
        label: class of each voxel, int64 of the image's shape without its channels; None where nobody drew any.
        spacing: of voxels along each axis, in millimetres, above 0; None where it is not known.
        affine: from voxel numbers to millimetres, float64, shape (4, 4), invertible; None where it is not known.
        slice_axis: which axis of a volume, from 0, goes through its slices.

    Raises:
        InputError: one is not as above.

    Example:
        >>> from aureole.data.scans import Scan
        >>> scan = Scan(name="ball", image=torch.rand(1, 5, 8, 9), label=torch.zeros(5, 8, 9, dtype=torch.int64))
        >>> scan.shape, scan.slices()[0].shape
        ((5, 8, 9), torch.Size([5, 1, 8, 9]))
    """

    name: str
    image: Tensor
    label: Tensor | None = None
    spacing: tuple[float, ...] | None = None
    affine: Tensor | None = None
    slice_axis: int = 0

    def __post_init__(self) -> None:
        image = self.image
        if image.dtype != torch.float32 or image.ndim not in (3, 4) or image.numel() == 0:
            raise InputError(
                f"the image of {self.name} must be float32 of shape (channels, d1, d2, d3), or (channels, height, "
                f"width) for a slice, and not be empty; got {image.dtype} {tuple(image.shape)}"
            )
        unknown = int((~image.isfinite()).sum())
        if unknown:
            raise InputError(
                f"voxels of {self.name} must be finite; {unknown} of {image.numel()} are NaN or infinite: fill them, or"
                " leave the scan out"
            )
        self._check_label()
        self._check_geometry()

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis."""
        return tuple(self.image.shape[1:])

    def slices(self) -> tuple[Float32[Tensor, "slices channels h w"], Int64[Tensor, "slices h w"] | None]:
        """Return the slices of a volume, and their labels where there are any."""
        image = self.image.movedim(1 + self.slice_axis, 0)
        return image, None if self.label is None else self.label.movedim(self.slice_axis, 0)

    def _check_label(self) -> None:
        label = self.label
        if label is None:
            return
        if tuple(label.shape) != self.shape:
            raise InputError(
                f"image and label of {self.name} must have the same shape; got {self.shape} and {tuple(label.shape)}: "
                "are they of the same scan?"
            )
        if label.dtype != torch.int64:
            raise InputError(f"the label of {self.name} must be int64, a class number a voxel; got {label.dtype}")

    def _check_geometry(self) -> None:
        if not 0 <= self.slice_axis < len(self.shape):
            raise InputError(f"slice_axis of {self.name} must be 0 to {len(self.shape) - 1}; got {self.slice_axis}")
        spacing = self.spacing
        if spacing is not None and (
            len(spacing) != len(self.shape) or not all(math.isfinite(mm) and mm > 0 for mm in spacing)
        ):
            raise InputError(f"the spacing of {self.name} must be a length above 0 for each axis; got {spacing}")
        affine = self.affine
        if affine is None:
            return
        if affine.dtype != torch.float64 or tuple(affine.shape) != (4, 4):
            raise InputError(
                f"the affine of {self.name} must be float64 of shape (4, 4); got {affine.dtype} {tuple(affine.shape)}"
            )
        if not bool(affine.isfinite().all()) or int(torch.linalg.matrix_rank(affine[:3, :3])) < 3:
            raise InputError(
                f"the affine of {self.name} cannot be inverted, so that its voxels have no place in the room: mend the "
                "header's sform or qform"
            )


def check_classes(scan: Scan, num_classes: int) -> None:
    """Check that all labels of a scan are classes.

    Raises:
        InputError: one is not.

    Example:
        >>> from aureole.data.scans.scan import Scan, check_classes
        >>> check_classes(Scan(name="a", image=torch.rand(1, 2, 2), label=torch.tensor([[0, 1], [2, 5]])), 3)
        Traceback (most recent call last):
        aureole.core.errors.InputError: labels of a must lie in 0 to 2; got 0 to 5: give a name for each class in ...
    """
    label = scan.label
    if label is None:
        return
    low, high = (int(value) for value in label.aminmax())
    if low < 0 or high >= num_classes:
        raise InputError(
            f"labels of {scan.name} must lie in 0 to {num_classes - 1}; got {low} to {high}: give a name for each class"
            " in class_names, or number the classes from 0"
        )


def scaled(image: Float32[Tensor, "channels *space"], scaling: str) -> Float32[Tensor, "channels *space"]:
    """Return an image scaled as a whole, each channel by itself; a constant channel becomes 0.

    Args:
        image: of one scan.
        scaling: ``"none"``; ``"unit"``: (x - min) / (max - min); ``"z-score"``: (x - mean) / std.

    Raises:
        InputError: the scaling is unknown.

    Example:
        >>> from aureole.data.scans import scaled
        >>> scaled(torch.tensor([[[2.0, 4.0, 6.0]]]), "unit").tolist()
        [[[0.0, 0.5, 1.0]]]

    Source: to [0, 1] for ACDC in SSL4MIS, z-score for the left atrium in UA-MT.
    """
    if scaling not in SCALINGS:
        raise unknown_name("scaling", scaling, SCALINGS)
    if scaling == "none":
        return image
    flat = image.flatten(1)
    shift, width = flat.amin(1), flat.amax(1) - flat.amin(1)
    flat_channels = width == 0
    if scaling == "z-score":
        shift, width = flat.mean(1), flat.std(1, correction=0)
    width = torch.where(flat_channels, 1, width)
    moved = (flat - shift[:, None]).masked_fill(flat_channels[:, None], 0)
    return (moved / width[:, None]).view(image.shape)
