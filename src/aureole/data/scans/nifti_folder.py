"""Plain folders of NIfTI files: ``images/`` and ``labels/`` side by side, with the same file names.

    ROOT/images/liver_1.nii.gz, ROOT/labels/liver_1.nii.gz

or the same in ``ROOT/train``, ``ROOT/validation`` and ``ROOT/test``. An image without a label is unlabelled. Without
such parts, lists of names (``train.list``, ``val.list``, ``test.list``) may tell what is for what; without lists all
scans are for training.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from aureole.core.errors import InputError
from aureole.data.scans.layout import Layout, read_list
from aureole.data.scans.nifti import ENDINGS, read_nifti, stem
from aureole.data.scans.scans import Entry

SCALING = ("unit", "z-score")


def is_nifti_folder(root: Path) -> bool:
    """Return whether the folder, or its folder ``train``, has a folder ``images``.

    Example:
        >>> from pathlib import Path
        >>> from aureole.data.scans.nifti_folder import is_nifti_folder
        >>> is_nifti_folder(Path("no/such/folder"))
        False
    """
    return (root / "images").is_dir() or (root / "train" / "images").is_dir()


def nifti_layout(root: Path) -> Layout:
    """Return what is at a folder of NIfTI files; none is opened.

    Scans to train on stand in the order of their names, or of the list, those with a label before the others.

    Raises:
        InputError: there is no image, a label has no image, or a list names a scan that is not there.
    """
    parts = _parts(root) if (root / "train" / "images").is_dir() else _listed(root)
    train = parts["train"] or ()
    return Layout(
        name=str(root),
        scaling=SCALING,
        volumes=(*(e for e in train if e.has_label), *(e for e in train if not e.has_label)),
        validation=parts["val"],
        test=parts["test"],
        counted_in=str(root),
    )


def _parts(root: Path) -> dict[str, tuple[Entry, ...] | None]:
    folders = {"train": "train", "val": "validation", "test": "test"}
    return {
        part: tuple(_entries(root / folder).values()) if (root / folder / "images").is_dir() else None
        for part, folder in folders.items()
    }


def _listed(root: Path) -> dict[str, tuple[Entry, ...] | None]:
    entries = _entries(root)
    lists = {part: root / f"{part}.list" for part in ("train", "val", "test")}
    if not lists["train"].is_file():
        return {"train": tuple(entries.values()), "val": None, "test": None}
    return {part: _pick(entries, path) if path.is_file() else None for part, path in lists.items()}


def _pick(entries: dict[str, Entry], listed: Path) -> tuple[Entry, ...]:
    names = read_list(listed)
    missing = [name for name in names if name not in entries]
    if missing:
        raise InputError(
            f"{listed} names {missing[0]}, and {len(missing) - 1} more, without an image in {listed.parent / 'images'}"
        )
    return tuple(entries[name] for name in names)


def _entries(folder: Path) -> dict[str, Entry]:
    images, labels = _files(folder / "images"), _files(folder / "labels")
    if not images:
        raise InputError(f"{folder / 'images'} has no NIfTI file ({' or '.join(ENDINGS)})")
    alone = sorted(set(labels) - set(images))
    if alone:
        raise InputError(f"the label {labels[alone[0]]} has no image of that name in {folder / 'images'}")
    return {
        name: Entry(name, name, partial(read_nifti, path, name, labels.get(name)), name in labels)
        for name, path in images.items()
    }


def _files(folder: Path) -> dict[str, Path]:
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [(stem(path), path) for path in found if not path.name.startswith(".")]
    return {name: path for name, path in names if name is not None}
