"""Scans in NIfTI files, with the geometry that their headers tell."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aureole.core.errors import InputError, UntrustedResult, first_line
from aureole.data.scans.hdf5 import whole_numbers
from aureole.data.scans.scan import Scan

ENDINGS = (".nii.gz", ".nii")


def stem(path: Path) -> str | None:
    """Return the name of a NIfTI file without its ending; None for another file.

    Example:
        >>> from pathlib import Path
        >>> from aureole.data.scans.nifti import stem
        >>> stem(Path("images/liver_1.nii.gz")), stem(Path("notes.txt"))
        ('liver_1', None)
    """
    return next((path.name.removesuffix(end) for end in ENDINGS if path.name.endswith(end)), None)


def read_nifti(image: Path, name: str, label: Path | None = None, *, with_label: bool = True) -> Scan:
    """Read a volume (x, y, z), or one with channels last, and its label; slices go along z.

    Args:
        image: file of the image.
        name: what the scan is to be called.
        label: file of the label; None for a scan without one.
        with_label: whether to read the label too.

    Raises:
        InputError: a file is missing or unreadable, or the two do not fit.

    Example:
        >>> from pathlib import Path
        >>> from aureole.data.scans.nifti import read_nifti
        >>> read_nifti(Path("no/such/file.nii.gz"), "a scan")
        Traceback (most recent call last):
        aureole.core.errors.InputError: a scan has no file: there is nothing at no/such/file.nii.gz
    """
    voxels, affine = _load(image, name)
    if voxels.ndim not in (3, 4):
        raise InputError(f"{image} must be a volume (x, y, z), or one with channels last; got the shape {voxels.shape}")
    moved = voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0)
    classes = None if label is None or not with_label else _load_label(label, name, affine)
    return Scan(
        name=name,
        image=torch.from_numpy(np.ascontiguousarray(moved, dtype=np.float32)),
        label=classes,
        spacing=tuple(float(mm) for mm in np.sqrt((affine[:3, :3] ** 2).sum(0))) if _invertible(affine) else None,
        affine=torch.from_numpy(affine),
        slice_axis=2,
    )


def _load_label(path: Path, name: str, affine: np.ndarray) -> torch.Tensor:
    values, own = _load(path, name)
    if values.ndim == 4 and values.shape[-1] == 1:
        values = values[..., 0]
    if np.abs(own - affine).max() > 0.01 * max(np.abs(affine[:3, :3]).max(), 1e-6):
        warnings.warn(
            f"image and label of {name} differ in their affine: is the label that of another scan, or of a resampled "
            "one? Labels are taken voxel by voxel",
            UntrustedResult,
            stacklevel=3,
        )
    return whole_numbers(values, str(path))


def _load(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{name} has no file: there is nothing at {path}")
    nibabel = _nibabel()
    try:
        file = nibabel.load(path)
        voxels, affine = np.asarray(file.dataobj), np.asarray(file.affine, dtype=np.float64)
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path} cannot be read as NIfTI: {first_line(error)}") from error
    if voxels.dtype.kind not in "biuf":
        raise InputError(f"{path} must hold one number a voxel; got {voxels.dtype}: convert colours to grey")
    return voxels, affine


def _invertible(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise InputError("NIfTI files need nibabel, which is missing: pip install 'aureole[medical]'") from None
    return nibabel
