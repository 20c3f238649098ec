"""ACDC as SSL4MIS stores it: HDF5 slices to train on, HDF5 volumes to validate and test on, and lists of names.

    ROOT/train_slices.list, train.list, val.list, test.list
    ROOT/data/slices/patient001_frame01_slice_1.h5, ROOT/data/patient001_frame01.h5

Names are patient, frame and slice, joined by underscores. Other data in this form work as well.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aureole.core.errors import InputError
from aureole.data.scans.hdf5 import read_hdf5
from aureole.data.scans.layout import Layout, read_list
from aureole.data.scans.scans import Entry

CLASS_NAMES = ("background", "RV", "myocardium", "LV")


def is_acdc(root: Path) -> bool:
    """Return whether the folder holds list files and HDF5 files as SSL4MIS stores them.

    Example:
        >>> from pathlib import Path
        >>> from aureole.data.scans.acdc import is_acdc
        >>> is_acdc(Path("no/such/folder"))
        False
    """
    data = root / "data"
    stored = (data / "slices").is_dir() or (data.is_dir() and next(data.glob("*.h5"), None) is not None)
    return stored and any((root / name).is_file() for name in ("train_slices.list", "train.list", "test.list"))


def acdc_layout(root: Path) -> Layout:
    """Return what is at a folder in the form of SSL4MIS's ACDC; no HDF5 file is opened.

    Raises:
        InputError: a list is unusable, or there is no list of training scans.

    Source: SSL4MIS, SS-Net, MC-Net: the same lists; the first patients of ``train_slices.list`` are the labelled ones.
    """
    slices = _entries(root / "train_slices.list", root / "data" / "slices")
    volumes = _entries(root / "train.list", root / "data")
    if slices is None and volumes is None:
        raise InputError(f"{root} has neither train_slices.list nor train.list, which name the scans to train on")
    return Layout(
        name=str(root),
        class_names=CLASS_NAMES,
        dimensions=2,
        slices=slices,
        volumes=volumes,
        validation=_entries(root / "val.list", root / "data"),
        test=_entries(root / "test.list", root / "data"),
        counted_in=str(root / ("train.list" if slices is None else "train_slices.list")),
    )


def _entries(listed: Path, folder: Path) -> tuple[Entry, ...] | None:
    if not listed.is_file():
        return None
    return tuple(
        Entry(name, name.split("_")[0], partial(read_hdf5, folder / f"{name}.h5", name)) for name in read_list(listed)
    )
