"""Pictures of explanations (thesis, Figures 4.4, 4.5, 4.8 and 4.9): image, mask, every method's map and its top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aureole.core.errors import InputError
from aureole.core.records import Record
from aureole.report.arrays import read_arrays
from aureole.report.drawing import (
    MASK_COLOUR,
    TOP_COLOUR,
    fitted,
    heat,
    inline,
    outlined,
    pixels_of,
    png,
    top_pixels,
)
from aureole.report.explained_rows import MEDTEX, Comparison, Students, comparisons, method_name, percent, share_of
from aureole.report.layout import listing
from aureole.report.pictures import Picture
from aureole.report.refined_pictures import Sheet, Shown

MAPS_NAME = "maps.npz"
_MOST_SHEETS = 8
_MOST_IMAGES = 3
_SIDE = 128
_CLASSES = ("labels", "teacher", "student")


@dataclass(frozen=True, kw_only=True)
class _Column:
    """The maps of one method on a sheet: its name, the arrays of its run, and which of its attributions."""

    name: str
    arrays: dict[str, Any]
    place: int


def explanation_sheets(found: Sequence[tuple[Path, Record]]) -> list[Sheet]:
    """Return the pictures of the explanations that have a file ``maps.npz`` beside their record.

    Args:
        found: records and their files.

    Returns:
        For each data set and teacher one sheet a share of the images, every method beside the others, and one of
        MED-TEX over the shares where there are several; at most 8. A file that cannot be read becomes a note.
    """
    homes = {id(record): path.parent for path, record in found if (path.parent / MAPS_NAME).exists()}
    sheets = []
    for comparison in comparisons(record for _, record in found if id(record) in homes):
        prefix = f"{comparison.name}: " if comparison.name else ""
        for at in comparison.shares:
            runs = [_first(students) for students in comparison.of(at)]
            columns, trouble = _columns([(homes[id(run)], run) for run in runs], with_share=False)
            title = f"{prefix}from {percent(at)} of the images, seed {runs[0].seed}"
            sheets.append(_sheet(comparison, title, columns, trouble))
        sheets += _over_shares(comparison, homes, prefix)
    return sheets[:_MOST_SHEETS]


def _over_shares(comparison: Comparison, homes: dict[int, Path], prefix: str) -> list[Sheet]:
    """Return the sheet of MED-TEX over the shares of the images; none where there is one share."""
    students = [found for at in comparison.shares if (found := comparison.at(MEDTEX, at)) is not None]
    if len(students) < 2:
        return []
    runs = [_first(found) for found in students]
    columns, trouble = _columns([(homes[id(run)], run) for run in runs], with_share=True)
    title = f"{prefix}{MEDTEX} from {listing([percent(found.share) for found in students])} of the images"
    return [_sheet(comparison, title, columns, trouble)]


def _first(students: Students) -> Record:
    return min(students.group.records, key=lambda record: record.seed)


def _columns(runs: Sequence[tuple[Path, Record]], *, with_share: bool) -> tuple[list[_Column], list[str]]:
    """Return the columns of a sheet, and what is wrong with runs that have none."""
    columns, trouble = [], []
    for home, record in runs:
        method = method_name(record.label)
        try:
            arrays = read_maps(home / MAPS_NAME)
        except InputError as error:
            trouble.append(f"{method}: {error}")
            continue
        for place, name in enumerate(map(str, arrays["attributions"])):
            title = method if name in (method, "own map") else f"{method}, {name}"
            title += f", {percent(share_of(record))}" if with_share else ""
            columns.append(_Column(name=title, arrays=arrays, place=place))
    first = columns[0].arrays if columns else {}
    trouble += [f"{c.name}: its images are others" for c in columns if not _same_images(c.arrays, first)]
    return [column for column in columns if _same_images(column.arrays, first)], trouble


def _same_images(one: dict[str, Any], other: dict[str, Any]) -> bool:
    import numpy as np

    return one["x"].shape == other["x"].shape and bool(np.array_equal(one["index"], other["index"]))


def read_maps(path: Path) -> dict[str, Any]:
    """Read and check a file of maps.

    Args:
        path: an npz file with ``x`` (k, C, H, W), ``maps`` (n, k, H, W), ``labels``, ``index``, ``teacher`` and
            ``student`` (k,), the names ``attributions`` (n,) and, if there are any, ``class_names`` and ``masks``
            (k, H, W).

    Returns:
        Name -> array.

    Raises:
        InputError: the file cannot be read, or an array is missing or has another shape.
    """
    arrays = read_arrays(path, ("x", "maps", "index", "attributions", *_CLASSES))
    shape = arrays["x"].shape
    if len(shape) != 4 or 0 in shape:
        raise InputError(f"{path.name}: x must have the shape (images, channels, height, width); got {shape}")
    plane = (shape[0], *shape[2:])
    expected = dict.fromkeys(("index", *_CLASSES), shape[:1]) | {"maps": (*arrays["attributions"].shape, *plane)}
    expected |= {"masks": plane} if "masks" in arrays else {}
    for name, wanted in expected.items():
        if arrays[name].shape != wanted:
            raise InputError(f"{path.name}: {name} must have the shape {wanted}; got {arrays[name].shape}")
    return arrays


def _sheet(comparison: Comparison, title: str, columns: Sequence[_Column], trouble: Sequence[str]) -> Sheet:
    left_out = f" Left out: {'; '.join(trouble)}." if trouble else ""
    if not columns:
        return Sheet(title=title, note=f"There are no pictures.{left_out}")
    images = min(len(columns[0].arrays["x"]), _MOST_IMAGES)
    rows = [row for place in range(images) for row in _rows(comparison, columns, place)]
    total = len(columns[0].arrays["x"])
    shown = f" Shown: the first {images} of the {total} images that the run kept." if total > images else ""
    return Sheet(
        title=title,
        note=_note(comparison, columns[0].arrays) + shown + left_out,
        head=("image", *(column.name for column in columns)),
        rows=rows,
    )


def _rows(comparison: Comparison, columns: Sequence[_Column], i: int) -> list[list[Shown]]:
    """Return two rows of an image: its mask beside the heat of each map, and the tops of the maps."""
    arrays = columns[0].arrays
    pixels, mask = fitted(pixels_of(arrays["x"][i]), _SIDE), _mask(arrays, i)
    label, seen = _named(arrays, arrays["labels"][i]), _named(arrays, arrays["teacher"][i])
    count = int(mask.sum()) if mask is not None else max(1, round(arrays["maps"][0, 0].size / 16))
    marked = pixels if mask is None else outlined(pixels, fitted(mask, _SIDE) >= 0.5, MASK_COLOUR)
    words = f"Image of class {label}" + ("" if mask is None else f", {comparison.marked} outlined in green")
    heats = [_shown(marked, words, f"{label}; teacher: {seen}", fooled=seen != label)]
    tops = [_shown(pixels, f"Image of class {label}", f"K = {count:,} pixels")]
    for column in columns:
        scores, said = column.arrays["maps"][column.place, i], _named(arrays, column.arrays["student"][i])
        top = top_pixels(scores, count)
        heats.append(_shown(fitted(heat(scores), _SIDE), f"Map of {column.name}", said, fooled=said != seen))
        drawn = outlined(marked, fitted(top, _SIDE) >= 0.5, TOP_COLOUR)
        overlap = "" if mask is None else f"IoU {(top & mask).sum() / (top | mask).sum():.2f}"
        tops.append(_shown(drawn, f"The {count:,} highest scores of {column.name}", overlap))
    return [heats, tops]


def _shown(pixels: Any, alt: str, words: str, *, fooled: bool = False) -> Shown:
    return Shown(picture=Picture(source=inline(png(pixels)), words=alt), words=words, fooled=fooled)


def _mask(arrays: dict[str, Any], i: int) -> Any | None:
    mask = arrays["masks"][i].astype(bool) if "masks" in arrays else None
    return mask if mask is not None and mask.any() else None


def _named(arrays: dict[str, Any], index: Any) -> str:
    names = arrays.get("class_names", [])
    return str(names[index]) if 0 <= index < len(names) else str(index)


def _note(comparison: Comparison, arrays: dict[str, Any]) -> str:
    note = "Maps are scaled image by image, from the least score (black) to the highest (light yellow)."
    if "masks" in arrays and arrays["masks"].any():
        note += f" Green: the contour of the {comparison.marked}."
        note += f" Blue: the K pixels of the highest scores, as many as the {comparison.marked} have;"
        note += " without any, a sixteenth of the image."
    else:
        note += " Blue: the highest scores, a sixteenth of the pixels."
    note += " Below an image its class and the teacher's, bold where that is wrong;"
    return note + " below a map the student's, bold where it is not the teacher's."
