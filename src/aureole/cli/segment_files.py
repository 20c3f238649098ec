"""What ``aureole segment`` reads and where it writes: the scans that were named, and a folder that is its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from aureole.core.errors import InputError

#: First entry of ``volumes.json``; by it the command knows a folder that it wrote before.
GENERATOR = "aureole segment"
VOLUMES = "volumes.json"
_IMAGES, _LABELS = "images", "labels"


def is_scan(path: Path) -> bool:
    """Return whether a file has the ending of a scan.

    Example:
        >>> is_scan(Path("heart.nii.gz")), is_scan(Path("heart.h5")), is_scan(Path("heart.png"))
        (True, True, False)
    """
    from aureole.data.scans.nifti import stem
    from aureole.data.scans.read_scan import HDF5_ENDINGS

    return stem(path) is not None or path.suffix in HDF5_ENDINGS


def scan_name(path: Path) -> str:
    """Return the name of a scan's file without its ending.

    Example:
        >>> scan_name(Path("data/heart.v2.nii.gz")), scan_name(Path("data/heart.v2.h5"))
        ('heart.v2', 'heart.v2')
    """
    from aureole.data.scans.nifti import stem

    return stem(path) or path.stem


def find_scans(given: Sequence[Path], output: Path) -> dict[Path, str]:
    """Return the files to segment, those of folders in the order of their names, each with a name that no other has.

    Labels in a folder ``labels`` beside ``images`` are no scans, nor is what an earlier call wrote. A path at which
    there is nothing counts as a scan, which fails in its turn, where there is something at another.

    Raises:
        InputError: there is nothing at any of the paths, or no scan in a folder.
    """
    found: dict[Path, None] = {}
    if not any(path.exists() for path in given):
        raise InputError(f"no scan and no folder at {', '.join(map(str, given))}")
    for path in given:
        inside = list(_scans_in(path, output)) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"no scans in {path}: looked for .nii, .nii.gz, .h5 and .hdf5, also in its folders")
        found |= dict.fromkeys(inside)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in found:
        base = path.parent.name if path.stem == "mri_norm2" else scan_name(path)  # the left atria of UA-MT
        number, name = 1, base
        while name.lower() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def _scans_in(folder: Path, output: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        labels = path.parent.name == _LABELS and (path.parent.with_name(_IMAGES)).is_dir()
        if path.is_file() and is_scan(path) and not hidden and not labels and not _written(path, output):
            yield path


def _written(path: Path, output: Path) -> bool:
    """Return whether a file lies in the folder of the results, or is a mask beside an older list of volumes."""
    if output.resolve() in path.resolve().parents:
        return True
    return path.name.endswith("_mask.nii.gz") and (path.parent / VOLUMES).is_file()


def label_file(path: Path) -> Path | None:
    """Return the label of a NIfTI image in a folder ``images``: the file of its name in ``labels``, if it is there."""
    from aureole.data.scans.nifti import stem

    if path.parent.name != _IMAGES or stem(path) is None:
        return None
    beside = path.resolve().parent.with_name(_LABELS)
    names = (path.name, f"{stem(path)}.nii.gz", f"{stem(path)}.nii")
    return next((beside / name for name in names if (beside / name).is_file()), None)


def check_output(output: Path) -> None:
    """Check that a folder is new, empty, or was written by an earlier call.

    Raises:
        InputError: it is a file, or holds anything else.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"cannot write {output}: it is a file; give --output a folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    try:
        content = json.loads((output / VOLUMES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("generator") != GENERATOR:
        raise InputError(f"{output} holds other files: give --output an empty folder or a new one")
