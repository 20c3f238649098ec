"""The left atrium challenge of 2018 as UA-MT stores it: one folder a scan, each with ``mri_norm2.h5``, and two lists.

    ROOT/train.list, test.list
    ROOT/data/06SR5RBREL16DQ6M8LWS/mri_norm2.h5

The folders of the scans may lie in ROOT itself, in ``data`` or in ``2018LA_Seg_Training Set``, and the lists beside
them or in ROOT. There is no validation list: the published code chose its models on the test list.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aureole.core.errors import InputError
from aureole.data.scans.hdf5 import read_hdf5
from aureole.data.scans.layout import Layout, read_list
from aureole.data.scans.scans import Entry

CLASS_NAMES = ("background", "atrium")
_FOLDERS = ("data", "2018LA_Seg_Training Set", ".")
_FILE = "mri_norm2.h5"


def is_left_atrium(root: Path) -> bool:
    """Return whether the folder holds scans as UA-MT stores them.

    Example:
        >>> from pathlib import Path
        >>> from aureole.data.scans.left_atrium import is_left_atrium
        >>> is_left_atrium(Path("no/such/folder"))
        False
    """
    return _folder(root) is not None


def left_atrium_layout(root: Path) -> Layout:
    """Return what is at a folder in the form of UA-MT's left atria; no HDF5 file is opened.

    Raises:
        InputError: a list is unusable, or there is none of training scans.

    Source: UA-MT, SASSNet, DTC, SS-Net: the same lists; the first scans of ``train.list`` are the labelled ones.
    """
    folder = _folder(root)
    if folder is None:
        raise InputError(f"{root} has no scans like data/NAME/{_FILE}")
    lists = {part: _list(part, root, folder) for part in ("train", "val", "test")}
    if lists["train"] is None:
        raise InputError(f"there is no list of scans at {root / 'train.list'}, which names the scans to train on")
    entries = {part: None if path is None else _entries(path, folder) for part, path in lists.items()}
    return Layout(
        name=str(root),
        class_names=CLASS_NAMES,
        volumes=entries["train"],
        validation=entries["val"],
        test=entries["test"],
        counted_in=str(lists["train"]),
    )


def _folder(root: Path) -> Path | None:
    return next((root / name for name in _FOLDERS if next((root / name).glob(f"*/{_FILE}"), None)), None)


def _list(part: str, root: Path, folder: Path) -> Path | None:
    return next((path for path in (root / f"{part}.list", folder / f"{part}.list") if path.is_file()), None)


def _entries(listed: Path, folder: Path) -> tuple[Entry, ...]:
    return tuple(
        Entry(name, name, partial(read_hdf5, folder / name / _FILE, name, slice_axis=2)) for name in read_list(listed)
    )
