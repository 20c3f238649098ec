"""Lists of scans in a ``dataset.json``, as the Medical Segmentation Decathlon and MONAI write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aureole.core.errors import InputError, first_line
from aureole.data.scans.layout import Layout
from aureole.data.scans.nifti import read_nifti, stem
from aureole.data.scans.nifti_folder import SCALING
from aureole.data.scans.scans import Entry

FILE = "dataset.json"


def decathlon_layout(path: Path) -> Layout:
    """Return what a ``dataset.json`` lists; no scan is opened.

    ``training`` items without a label are unlabelled, and stand behind the others; ``validation`` and ``test`` may be
    left out. ``labels`` names the classes: ``{"0": "background", "1": "liver"}``, or the other way round.

    Raises:
        InputError: the file is unreadable, lists no training scans, or lists something else than NIfTI files.

    Source: http://medicaldecathlon.com; read by MONAI's ``load_decathlon_datalist``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {first_line(error)}") from error
    if not isinstance(content, dict) or not content.get("training"):
        raise InputError(f"{path} must list scans under 'training', as the Medical Segmentation Decathlon does")
    train = _entries(path, "training")
    return Layout(
        name=str(path),
        class_names=_class_names(content.get("labels"), path),
        scaling=SCALING,
        volumes=(*(e for e in train if e.has_label), *(e for e in train if not e.has_label)),
        validation=_entries(path, "validation") if content.get("validation") else None,
        test=_entries(path, "test") if content.get("test") else None,
        counted_in=str(path),
    )


def _class_names(labels: Any, path: Path) -> tuple[str, ...]:
    if not labels:
        return ()
    pairs = labels.items() if isinstance(labels, dict) else ()
    try:
        names = {int(key): value for key, value in pairs} if _numbered(labels) else {int(v): k for k, v in pairs}
    except (TypeError, ValueError):
        names = {}
    if sorted(names) != list(range(len(names))) or not names:
        raise InputError(f"labels of {path} must name the classes 0, 1, ... without a gap; got {labels}")
    return tuple(str(names[number]) for number in range(len(names)))


def _numbered(labels: Any) -> bool:
    return all(str(key).isdigit() for key in labels)


def _entries(path: Path, key: str) -> tuple[Entry, ...]:
    load = _monai_reader()
    try:
        items = load(path, is_segmentation=True, data_list_key=key)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"the {key} list of {path} cannot be read: {first_line(error)}") from error
    return tuple(_entry(item, f"the {key} list of {path}") for item in items)


def _entry(item: dict[str, Any], where: str) -> Entry:
    image, label = item.get("image"), item.get("label")
    if not isinstance(image, str) or not isinstance(label, str | None):
        raise InputError(f"items of {where} must have one file as image and at most one as label; got {item}")
    name = stem(Path(image))
    if name is None:
        raise InputError(f"{where} must name NIfTI files (.nii or .nii.gz); got {image}")
    load = partial(read_nifti, Path(image), name, None if label is None else Path(label))
    return Entry(name, name, load, label is not None)


def _monai_reader() -> Callable[..., list[dict[str, Any]]]:
    try:
        from monai.data.decathlon_datalist import load_decathlon_datalist
    except ImportError:
        raise InputError(f"{FILE} needs MONAI, which is missing: pip install 'aureole[medical]'") from None
    return load_decathlon_datalist
