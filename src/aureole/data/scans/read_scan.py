"""Read one scan of a person's own, whatever its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aureole.core.errors import InputError
from aureole.data.scans.hdf5 import read_hdf5
from aureole.data.scans.nifti import ENDINGS, read_nifti, stem
from aureole.data.scans.scan import Scan, scaled

HDF5_ENDINGS = (".h5", ".hdf5")


def read_scan(path: str, *, scaling: str = "none", slice_axis: int | None = None) -> Scan:
    """Read the image of one scan from a NIfTI or an HDF5 file, without a label.

    Args:
        path: of the file.
        scaling: as :class:`ScanData` takes it, and the same as in training.
        slice_axis: which axis goes through the slices; None for the first of an HDF5 and the last of a NIfTI file.

    Raises:
        InputError: the file is of another kind, missing or unreadable, or its voxels are not finite.

    Example:
        >>> from aureole.data.scans import read_scan
        >>> read_scan("scan.dcm")
        Traceback (most recent call last):
        aureole.core.errors.InputError: scan.dcm is no scan that can be read; expected a file .nii.gz, .nii, .h5 or ...
    """
    file = Path(path).expanduser()
    name = stem(file)
    if name is not None:
        scan = read_nifti(file, name)
    elif file.suffix in HDF5_ENDINGS:
        scan = read_hdf5(file, file.stem, with_label=False)
    else:
        expected = ", ".join((*ENDINGS, HDF5_ENDINGS[0]))
        raise InputError(f"{path} is no scan that can be read; expected a file {expected} or {HDF5_ENDINGS[1]}")
    axis = scan.slice_axis if slice_axis is None else slice_axis
    return replace(scan, image=scaled(scan.image, scaling), slice_axis=axis)
