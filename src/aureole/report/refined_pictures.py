"""Pictures of refinement (thesis, Figures 3.3 to 3.5): image, perturbation, map, what is kept of it, other attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aureole.core.errors import InputError
from aureole.core.records import Record
from aureole.report.aggregate import data_of, split
from aureole.report.arrays import read_arrays
from aureole.report.drawing import heat
from aureole.report.layout import listing, number
from aureole.report.pictures import Picture, address, diverging, picture
from aureole.report.refined_rows import lines_of
from aureole.report.refined_words import telling_share

PAIRS_NAME = "pairs.npz"
_MOST_SHEETS = 12
_MOST_IMAGES = 6
_HEAD = ("image", "perturbation", "attacked", "vulnerability", "kept", "refined")
_IMAGES = ("x", "x_source", "x_refined")
_CLASSES = ("predicted", "predicted_source", "predicted_refined", "labels")
_COMPARED = ("x_compared", "predicted_compared")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture of a sheet with the words below it, and whether they are a wrong class."""

    picture: Picture
    words: str
    fooled: bool = False


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The pictures of one run.

    Args:
        title: whose they are.
        note: how the colours are made; or why there are no pictures.
        head: names of the columns.
        rows: one an image, one picture a column.
        legend: (coloured box, what it marks) pairs.
    """

    title: str
    note: str
    head: Sequence[str] = _HEAD
    rows: Sequence[Sequence[Shown]] = ()
    legend: Sequence[tuple[Markup, str]] = ()


def sheets(found: Sequence[tuple[Path, Record]]) -> list[Sheet]:
    """Return the pictures of the runs of refinement that have a file ``pairs.npz`` beside their record.

    Args:
        found: records and their files.

    Returns:
        One sheet for each victim and attack, at most 12: of the share nearest to 0.3 and the lowest seed. A file that
        cannot be read becomes a note.
    """
    homes = {id(record): path.parent for path, record in found if (path.parent / PAIRS_NAME).exists()}
    parts = split(record for _, record in found if id(record) in homes)
    shown = []
    for part in parts:
        for victim, lines in lines_of(part).items():
            for line in lines:
                record = min(line.at(telling_share(line)), key=lambda record: record.seed)
                data = f"{data_of(part).name}, " if len(parts) > 1 else ""
                title = f"{data}{victim}: {line.name}, {telling_share(line):g} of the pixels, seed {record.seed}"
                shown.append((homes[id(record)] / PAIRS_NAME, title))
    return [_sheet(path, title) for path, title in shown[:_MOST_SHEETS]]


def read_pairs(path: Path) -> dict[str, Any]:
    """Read and check a file of pairs.

    Args:
        path: an npz file with ``x``, ``x_source``, ``x_refined`` (k, C, H, W), ``map`` (k, H, W), ``labels``,
            ``predicted``, ``predicted_source``, ``predicted_refined`` (k,) and, if there are any, ``class_names``, and
            what other attacks made of the images: their names ``compared`` (n,), ``x_compared`` (n, k, C, H, W) and
            ``predicted_compared`` (n, k).

    Returns:
        Name -> array.

    Raises:
        InputError: the file cannot be read, or an array is missing, has another shape or holds no numbers.
    """
    import numpy as np

    arrays = read_arrays(path)
    arrays["compared"] = np.ravel(arrays.get("compared", []))
    others = arrays["compared"].shape
    missing = [name for name in (*_IMAGES, *_CLASSES, "map", *_COMPARED * any(others)) if name not in arrays]
    if missing:
        raise InputError(f"{path.name} has no array {missing[0]!r}: repeat the run")
    shape = arrays["x"].shape
    if len(shape) != 4 or 0 in shape:
        raise InputError(f"{path.name}: x must have the shape (images, channels, height, width); got {shape}")
    expected = dict.fromkeys(_IMAGES, shape) | dict.fromkeys(_CLASSES, shape[:1]) | {"map": (shape[0], *shape[2:])}
    if any(others):
        expected |= {"x_compared": others + shape, "predicted_compared": others + shape[:1]}
    for name, wanted in expected.items():
        if arrays[name].shape != wanted:
            raise InputError(f"{path.name}: {name} must have the shape {wanted}; got {arrays[name].shape}")
        if arrays[name].dtype.kind not in ("iu" if name in (*_CLASSES, _COMPARED[1]) else "fiu"):
            raise InputError(f"{path.name}: {name} must hold numbers; got {arrays[name].dtype}")
    return arrays


def _sheet(path: Path, title: str) -> Sheet:
    import numpy as np

    try:
        arrays = read_pairs(path)
    except InputError as error:
        return Sheet(title=title, note=f"There are no pictures: {error}.")
    x, x_source, x_refined = (arrays[name].astype(np.float64) for name in _IMAGES)
    delta, kept = (x_source - x).mean(axis=1), (x_refined - x).mean(axis=1)
    largest = float(np.nanmax(np.abs(delta))) or 1.0
    drawn = [arrays[name] for name in ("x", "x_source", "x_compared") if name in arrays]
    low, high = min(0.0, *(float(a.min()) for a in drawn)), max(1.0, *(float(a.max()) for a in drawn))
    rows = []
    for i in range(min(len(x), _MOST_IMAGES)):
        label, *seen = (_named(arrays, arrays[name][i]) for name in ("labels", *_CLASSES[:3]))
        pictures = [
            picture((x[i] - low) / (high - low), f"Image, classified as {seen[0]}"),
            Picture(source=address(diverging(delta[i] / largest)), words="Perturbation of the attack"),
            picture((x_source[i] - low) / (high - low), f"Attacked image, classified as {seen[1]}"),
            Picture(source=address(heat(arrays["map"][i])), words="Vulnerability map"),
            Picture(source=address(diverging(kept[i] / largest)), words="What is kept of the perturbation"),
            picture((x_refined[i] - low) / (high - low), f"Refined image, classified as {seen[2]}"),
        ]
        words = [seen[0], "", seen[1], "", f"{_changed(x[i], x_refined[i])} of pixels", seen[2]]
        wrong = [seen[0] != label, False, seen[1] != label, False, False, seen[2] != label]
        row = [Shown(picture=p, words=w, fooled=f) for p, w, f in zip(pictures, words, wrong, strict=True)]
        rows.append(row + _compared(arrays, i, (low, high)))
    both = all(bool((arrays[name] != arrays["labels"]).all()) for name in _CLASSES[1:3])
    others, note = [str(name) for name in arrays["compared"]], _note(x.shape, largest, (low, high), both=both)
    if others:
        note += f" Beside stand the images of {listing(others)}, with the share of the pixels that they change."
    return Sheet(title=title, note=note, head=(*_HEAD, *others), rows=rows)


def _compared(arrays: dict[str, Any], place: int, ends: tuple[float, float]) -> list[Shown]:
    """Return what other attacks made of an image."""
    shown, (low, high) = [], ends
    for n, name in enumerate(arrays["compared"]):
        image, seen = arrays["x_compared"][n, place], _named(arrays, arrays["predicted_compared"][n, place])
        drawn = picture((image - low) / (high - low), f"Image of {name}, classified as {seen}")
        words = f"{seen} ({_changed(arrays['x'][place], image)})"
        shown.append(Shown(picture=drawn, words=words, fooled=seen != _named(arrays, arrays["labels"][place])))
    return shown


def _changed(x: Any, x_adv: Any) -> str:
    return f"{100 * float((x_adv != x).any(axis=0).mean()):.0f} %"


def _named(arrays: dict[str, Any], index: Any) -> str:
    names = arrays.get("class_names", [])
    return str(names[index]) if 0 <= index < len(names) else str(index)


def _note(shape: tuple[int, ...], largest: float, ends: tuple[float, float], *, both: bool) -> str:
    num_images, channels, *_ = shape
    low, high = ends
    note = f"Perturbations are amplified, all on this sheet alike: full colour is a change of {number(largest, 3)}"
    note += ", orange up, blue down" + (", as the mean of the channels." if channels > 1 else ".")
    note += " Maps are scaled image by image, from the least vulnerable pixel (black) to the most (light yellow)."
    if (low, high) != (0.0, 1.0):
        note += f" Images are scaled from [{number(low, 3)}, {number(high, 3)}] to black and white."
    if both:
        note += " All images are such as attack and refinement both fool."
    if num_images > _MOST_IMAGES:
        note += f" Shown: the first {_MOST_IMAGES} of {num_images}."
    return note + " A bold class differs from the true one."
