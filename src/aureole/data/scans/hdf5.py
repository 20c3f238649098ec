"""Scans in HDF5 files, as the SSL4MIS family of code stores them: a data set ``image`` and a data set ``label``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from aureole.core.errors import InputError, first_line
from aureole.data.scans.scan import Scan


def read_hdf5(path: Path, name: str, *, with_label: bool = True, slice_axis: int = 0) -> Scan:
    """Read a volume (d1, d2, d3) or a slice (height, width); such files say nothing of spacing.

    Args:
        path: the file.
        name: what the scan is to be called.
        with_label: whether to read ``label`` too; without, it need not be there.
        slice_axis: which axis of a volume goes through its slices.

    Raises:
        InputError: there is no such file, it is no HDF5 file, it has no ``image`` or no ``label``, or they do not fit.

    Example:
        >>> from pathlib import Path
        >>> from aureole.data.scans.hdf5 import read_hdf5
        >>> read_hdf5(Path("no/such/file.h5"), "a scan")
        Traceback (most recent call last):
        aureole.core.errors.InputError: a scan has no file: there is nothing at no/such/file.h5

    Source: the data of SSL4MIS, UA-MT, SS-Net and their relatives.
    """
    if not path.is_file():
        raise InputError(f"{name} has no file: there is nothing at {path}")
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            image = _array(file, "image", path)
            label = _array(file, "label", path) if with_label else None
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read as HDF5: {first_line(error)}") from error
    if image.ndim not in (2, 3):
        raise InputError(f"image of {path} must be a volume (d1, d2, d3) or a slice (height, width); got {image.shape}")
    return Scan(
        name=name,
        image=torch.from_numpy(image.astype(np.float32))[None],
        label=None if label is None else whole_numbers(label, str(path)),
        slice_axis=slice_axis if image.ndim == 3 else 0,
    )


def whole_numbers(label: np.ndarray, where: str) -> torch.Tensor:
    """Return labels as int64.

    Raises:
        InputError: they are no whole numbers.

    Example:
        >>> import numpy as np
        >>> from aureole.data.scans.hdf5 import whole_numbers
        >>> whole_numbers(np.array([0.0, 2.0]), "a file")
        tensor([0, 2])
    """
    if label.dtype.kind not in "biuf":
        raise InputError(f"labels of {where} must be whole numbers; got {label.dtype}")
    if label.dtype.kind == "f" and not (np.isfinite(label) & (label == np.round(label))).all():
        raise InputError(f"labels of {where} must be whole numbers; got fractions or NaN: is it a probability map?")
    return torch.from_numpy(label.astype(np.int64))


def _array(file: Any, key: str, path: Path) -> np.ndarray:
    found = file.get(key)
    if not hasattr(found, "shape"):
        if key in file:
            raise InputError(f"{key!r} of {path} is a group: expected a data set of numbers")
        raise InputError(f"{path} has no data set {key!r}; it has {', '.join(map(repr, file)) or 'none'}")
    array = np.asarray(found[()])
    if array.dtype.kind not in "biuf":
        raise InputError(f"{key} of {path} must hold numbers; got {array.dtype}")
    return array


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError("HDF5 files need h5py, which is missing: pip install 'aureole[medical]'") from None
    return h5py
