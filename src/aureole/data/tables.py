"""Images that 🤗 ``datasets`` reads: a folder of class folders, a parquet folder, a name on the hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from aureole.core.errors import InputError
from aureole.data.images import Images, check_labels
from aureole.data.streamed import ImageSet, Streamed, decode, mode_for, to_array

if TYPE_CHECKING:
    from datasets import Dataset

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_PART_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing", "validation", "valid", "val", "dev")}
_PART_SPLITS = {"train": ("train",), "test": ("test", "validation")}
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label")


@dataclass(frozen=True, eq=False)
class Table:
    """A part of a source of labelled images before any image is decoded.

    Attributes:
        dataset: the 🤗 data set; its column of images is of type ``Image(decode=False)``.
        column: the column of the images.
        labels: int64 in 0 to the number of classes - 1, shape (n,).
        class_names: a name for each class.
        name: what a person calls the set.
    """

    dataset: Dataset
    column: str
    labels: torch.Tensor
    class_names: tuple[str, ...]
    name: str


def read_table(source: str, part: str, memory_limit: int) -> ImageSet:
    """Read a part of an image folder, of a folder that 🤗 ``datasets`` understands, or of a data set on its hub.

    Args:
        source: a folder, or a name on the hub.
        part: ``"train"`` or ``"test"``; without a test split the validation split is the test part.
        memory_limit: decoded images of more bytes than this are read on demand.

    Returns:
        The images, in memory or streamed.

    Raises:
        InputError: nothing readable is there, a column or the part is missing, an image or a label is unusable, or the
            test part has other classes than the training part.
    """
    table = open_table(source, part)
    with quiet():
        return _decoded(table, memory_limit)


def open_table(source: str, part: str) -> Table:
    """Open what :func:`read_table` reads, and decode no image.

    Raises:
        InputError: nothing readable is there, a column or the part is missing, a label is unusable, or the test part
            has other classes than the training part.
    """
    folder = Path(source).expanduser()
    with quiet():
        if folder.is_dir() and _class_folders(folder):
            dataset = _open_image_folder(folder, part)
        else:
            dataset = _open(source, folder, part)
            if part == "test" and folder.is_dir():
                _check_classes(dataset, source, folder)
        return _table(dataset, source, folder, part)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and the notes on each retry, and put the caller's choices back afterwards."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    was_disabled = are_progress_bars_disabled()
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    disable_progress_bars()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)
        if not was_disabled:
            enable_progress_bars()


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def image_files(folder: Path) -> Iterator[Path]:
    """Yield the images in a folder and its subfolders, in alphabetical order."""
    for root, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield Path(root, name)


def _part_folder(folder: Path, part: str) -> Path | None:
    return next((folder / name for name in _PART_FOLDERS[part] if (folder / name).is_dir()), None)


def _class_folders(folder: Path) -> bool:
    """Return whether the folder holds images in class folders, and no metadata that says something else."""
    parts = [found for part in _PART_FOLDERS if (found := _part_folder(folder, part))] or [folder]
    if any((place / name).exists() for place in (folder, *parts) for name in _METADATA):
        return False
    return any(next(image_files(child), None) for place in parts for child in _subfolders(place))


def _open_image_folder(folder: Path, part: str) -> Dataset:
    """Return a table of paths and labels: the classes are the folders of the training part, in alphabetical order."""
    from datasets import ClassLabel, Dataset, Features, Image

    place, train = _part_folder(folder, part), _part_folder(folder, "train")
    if place is None and (part == "test" or _part_folder(folder, "test")):
        raise InputError(f"{folder} has no {part} part; put its class folders into {folder / _PART_FOLDERS[part][0]}")
    place = place or folder
    names = [p.name for p in _subfolders(train or place)]
    paths, labels = [], []
    for child in _subfolders(place):
        if child.name not in names:
            raise InputError(f"class folders of {place} must be among those of {train}; got {child.name!r} beside them")
        found = [str(path) for path in image_files(child)]
        paths += found
        labels += [names.index(child.name)] * len(found)
    if not paths:
        raise InputError(f"{place} holds no images in class folders, such as {place / 'cat' / '1.png'}")
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"image": paths, "label": labels}, features=features)


def _open(source: str, folder: Path, part: str, *, streaming: bool = False) -> Dataset:
    """Open a split through ``load_dataset``, and of a local folder only the files of that split.

    With ``streaming``, for the features alone, nothing but the head of the first file of a local folder is read.
    """
    from datasets import get_dataset_split_names, load_dataset
    from datasets.data_files import EmptyDatasetError, get_data_patterns
    from datasets.exceptions import DatasetsError

    local = folder.is_dir()
    try:
        patterns = get_data_patterns(str(folder.resolve())) if local else {}
        known = list(patterns) if local else get_dataset_split_names(source)
        split = next((name for name in _PART_SPLITS[part] if name in known), None)
        if split is None:
            raise InputError(f"{source} has no {part} part; its splits are {', '.join(map(str, known))}")
        if local:
            files = {split: patterns[split]}
            return load_dataset(str(folder.resolve()), data_files=files, split=split, streaming=streaming)
        return load_dataset(source, split=split)
    except InputError:
        raise
    except EmptyDatasetError as error:
        raise InputError(f"{source} holds nothing readable; expected {EXPECTED}") from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        kind = "cannot be read as a folder of images" if local else "is no file or folder here, nor read from the hub"
        raise InputError(f"{source} {kind} ({reason}); expected {EXPECTED}") from error


#: What ``read`` takes, for messages.
EXPECTED = (
    "digits, a folder (IDX files, parquet files or class folders of images), an .npz file, or owner/name on the hub"
)


def _column(dataset: Dataset, source: str, preferred: tuple[str, ...], kind: type) -> str:
    """Return the column of a feature type; a column with a usual name goes first."""
    typed = [name for name, feature in dataset.features.items() if isinstance(feature, kind)]
    for name in preferred:
        if name in typed:
            return name
    if len(typed) == 1:
        return typed[0]
    for name in preferred:
        if name in dataset.features:
            return name
    raise InputError(
        f"{source} needs one column {' or '.join(map(repr, preferred))}, or a single one of type {kind.__name__}; "
        f"it has {', '.join(map(repr, dataset.features))}"
    )


def _check_classes(test: Dataset, source: str, folder: Path) -> None:
    """Check that the named classes of a test part are those of the training part beside it, where there is one.

    The files of each part name their classes, so that a label may mean another class in each.
    """
    from datasets import ClassLabel
    from datasets.data_files import get_data_patterns

    if "train" not in get_data_patterns(str(folder.resolve())):
        return
    column = _column(test, source, _LABEL_COLUMNS, ClassLabel)
    train = _open(source, folder, "train", streaming=True).features or {}
    one, other = (getattr(features.get(column), "names", None) for features in (train, test.features))
    if one and other and one != other:
        place = next(c for c, (a, b) in enumerate(zip_longest(one, other)) if a != b)
        a, b = (repr(names[place]) if place < len(names) else "missing" for names in (one, other))
        raise InputError(
            f"all parts of {source} must have the same classes; the training part has {len(one)} and the test part "
            f"{len(other)}, and class {place} is {a} in the one and {b} in the other: write the same names into both"
        )


def _table(dataset: Dataset, source: str, folder: Path, part: str) -> Table:
    from datasets import ClassLabel, Image

    if len(dataset) == 0:
        raise InputError(f"the {part} part of {source} has no rows")
    image_column = _column(dataset, source, _IMAGE_COLUMNS, Image)
    label_column = _column(dataset, source, _LABEL_COLUMNS, ClassLabel)
    labels, class_names = _labels(dataset, label_column, source, folder, part)
    name = folder.resolve().name if folder.is_dir() else source
    check_labels(labels, len(class_names), name)
    if not isinstance(dataset.features[image_column], Image):
        raise InputError(f"column {image_column!r} of {source} must hold images; got {dataset.features[image_column]}")
    dataset = dataset.cast_column(image_column, Image(decode=False))
    return Table(dataset, image_column, labels, class_names, name)


def _decoded(opened: Table, memory_limit: int) -> ImageSet:
    image_column, labels, class_names, name = opened.column, opened.labels, opened.class_names, opened.name
    table = opened.dataset.select_columns([image_column])
    first = decode(table[0][image_column], f"row 0 of {name}")
    mode = mode_for(first, f"row 0 of {name}")
    channels, height, width = to_array(first, mode, name).shape
    shape = (channels, height, width)
    streamed = Streamed(table, image_column, torch.arange(len(table)), labels, class_names, mode, shape, name)
    if len(table) * channels * height * width > memory_limit:
        return streamed
    return Images(_decode_all(streamed), labels, class_names, name)


def _decode_all(streamed: Streamed, chunk: int = 1000) -> torch.Tensor:
    pixels = torch.empty(len(streamed), *streamed.image_shape, dtype=torch.uint8)
    for rows in torch.arange(len(streamed)).split(chunk):
        pixels[rows] = streamed.batch(rows)
    return pixels


def _labels(
    dataset: Dataset, column: str, source: str, folder: Path, part: str
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Return the labels as int64 and the names of the classes.

    A column without class names (integers or text) takes its classes from the training part.
    """
    from datasets import ClassLabel

    feature = dataset.features[column]
    values = np.asarray(dataset.with_format("numpy", columns=[column])[:][column])
    if isinstance(feature, ClassLabel) and feature.names:
        _require(np.issubdtype(values.dtype, np.integer), column, source, values)
        return torch.from_numpy(values.astype(np.int64)), tuple(feature.names)
    known = values
    if part == "test":
        known = np.asarray(_open(source, folder, "train").with_format("numpy", columns=[column])[:][column])
    if np.issubdtype(values.dtype, np.integer):
        return torch.from_numpy(values.astype(np.int64)), tuple(str(c) for c in range(int(known.max()) + 1))
    _require(values.dtype.kind in "OU" and all(isinstance(v, str) for v in values), column, source, values)
    names = sorted({str(v) for v in known})
    place = {name: c for c, name in enumerate(names)}
    return torch.tensor([place.get(str(v), -1) for v in values]), tuple(names)


def _require(usable: bool, column: str, source: str, values: np.ndarray) -> None:
    if not usable:
        raise InputError(
            f"column {column!r} of {source} must hold a class for every row; "
            f"got {values.dtype}, such as {values.flat[0]!r}: leave out unlabelled rows"
        )
