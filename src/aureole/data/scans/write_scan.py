"""Write the classes of a scan's voxels as NIfTI, lying in the room where the scan does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Integer
from torch import Tensor

from aureole.core.errors import InputError, first_line
from aureole.data.scans.nifti import stem

_LABEL = 1002  # NIfTI's intent code of class numbers


def write_mask(
    path: Path,
    labels: Integer[Tensor, "d1 d2 d3"],
    *,
    like: Path | None = None,
    affine: Float64[Tensor, "4 4"] | None = None,
) -> None:
    """Write a mask in one step: a reader sees the old file or the whole new one.

    With ``like`` the geometry is copied bit by bit: sform and qform with their codes, spacing and units. Notes of its
    header and its extensions, which may name a patient, are not.

    Args:
        path: of the mask, ``.nii.gz`` or ``.nii``; its folder is made when it does not exist.
        labels: class of each voxel, 0 to 255, in the order in which the scan was read.
        like: the NIfTI file that was segmented.
        affine: from voxel numbers to millimetres; without it, nor ``like``, voxels are cubes of 1 mm.

    Raises:
        InputError: a class is no whole number of 0 to 255, the shape is not that of ``like``, or the file cannot be
            written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from aureole.data.scans import read_scan
        >>> from aureole.data.scans.write_scan import write_mask
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "mask.nii.gz")
        ...     write_mask(path, torch.ones(4, 3, 2, dtype=torch.int64))
        ...     read_scan(str(path)).shape
        (4, 3, 2)
    """
    if stem(path) is None:
        raise InputError(f"a mask must be written to .nii.gz or .nii; got {path}")
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high > 255:
        raise InputError(f"classes of a mask must be 0 to 255; got {low} to {high}")
    voxels = labels.cpu().numpy().astype(np.uint8)
    _save(_image(voxels, like, None if affine is None else affine.numpy()), path)


def _image(voxels: np.ndarray, like: Path | None, affine: np.ndarray | None) -> Any:
    import nibabel

    if like is None:
        image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
        image.header.set_xyzt_units("mm")
    else:
        image = _copied(nibabel.load(like), voxels, like)
    image.header.set_intent(_LABEL, name="classes")
    return image


def _copied(source: Any, voxels: np.ndarray, like: Path) -> Any:
    """Return an image with the geometry of another."""
    if tuple(source.shape[:3]) != voxels.shape:
        raise InputError(f"the mask of {like} must have its shape {tuple(source.shape[:3])}; got {voxels.shape}")
    old = source.header
    header = old.copy()
    header.extensions.clear()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    for note in ("descrip", "aux_file", "db_name"):
        if note in header:
            header[note] = b""
    header["cal_min"] = header["cal_max"] = 0
    image = type(source)(voxels, None, header)  # the affine is the header's own
    image.header.set_zooms(old.get_zooms()[:3])
    return image


def _save(image: Any, path: Path) -> None:
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # its ending says how it is packed
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            image.to_filename(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"cannot write {path}: {reason}; give another folder") from error
