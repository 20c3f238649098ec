"""Pictures of segmentations (thesis, Figure 6.3): every method's masks beside the truth, and surfaces of a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aureole.core.errors import InputError
from aureole.core.records import Record
from aureole.report.arrays import read_arrays
from aureole.report.drawing import inline, png
from aureole.report.pictures import Picture
from aureole.report.refined_pictures import Sheet, Shown
from aureole.report.scan_pictures import COLOUR_NAMES, class_colour
from aureole.report.segmented_overlays import overlaid, window
from aureole.report.segmented_rows import Clinic, Masks, clinics
from aureole.report.segmented_surfaces import surface

MASKS_NAME = "masks.npz"
_MOST_SHEETS, _MOST_IMAGES = 8, 4
_NEEDED = ("images", "truth", "prediction", "scans", "slices", "class_names")
_SURFACES = ("surface_truth", "surface_prediction")
_AGREE = ("truth", "scans", "slices")  # what the methods of one sheet share


def segmentation_sheets(found: Sequence[tuple[Path, Record]]) -> list[Sheet]:
    """Return the pictures of the segmentations that have a file ``masks.npz`` beside their record.

    Args:
        found: records and their files.

    Returns:
        For each set of scans and labels one sheet, every method beside the truth, of the lowest seed; and one of
        surfaces where the scans are volumes; at most 8. A file that cannot be read becomes a note.
    """
    homes = {id(record): path.parent for path, record in found if (path.parent / MASKS_NAME).exists()}
    sheets = []
    for clinic in clinics(record for _, record in found if id(record) in homes):
        columns, trouble = _columns(clinic, homes)
        sheets.append(_sheet(clinic, columns, trouble))
        if any("surface_truth" in arrays for arrays in columns.values()):
            sheets.append(_surfaces(clinic, columns))
    return sheets[:_MOST_SHEETS]


def _columns(clinic: Clinic, homes: dict[int, Path]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the arrays of each method that has the slices that most have, and what is wrong with the others."""
    columns: dict[str, dict[str, Any]] = {}
    trouble = []
    for masks in clinic.masks:
        try:
            columns[masks.name] = read_masks(homes[id(_first(masks))] / MASKS_NAME)
        except InputError as error:
            trouble.append(f"{masks.name}: {error}")
    slices = {name: _slices(arrays) for name, arrays in columns.items()}
    common = Counter(slices.values()).most_common(1)
    trouble += [f"{name}: its slices are others" for name in columns if slices[name] != common[0][0]]
    return {name: arrays for name, arrays in columns.items() if slices[name] == common[0][0]}, trouble


def _slices(arrays: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what says which slices of which scans there are."""
    return tuple((arrays[name].shape, arrays[name].tobytes()) for name in _AGREE)


def _first(masks: Masks) -> Record:
    return min(masks.group.records, key=lambda record: record.seed)


def read_masks(path: Path) -> dict[str, Any]:
    """Read and check a file of masks.

    Args:
        path: an npz file with ``images``, ``truth`` and ``prediction`` (k, h, w), the names ``scans`` (k,), the numbers
            ``slices`` (k,), ``class_names``, and of volumes ``surface_truth`` and ``surface_prediction``.

    Raises:
        InputError: the file cannot be read, or an array is missing or has another shape.
    """
    arrays = read_arrays(path, _NEEDED)
    shape = arrays["images"].shape
    if len(shape) != 3 or not all(arrays[name].shape == shape for name in ("truth", "prediction")):
        raise InputError(f"{path.name}: images, truth and prediction must have one shape (slices, height, width)")
    if not all(arrays[name].shape == shape[:1] for name in ("scans", "slices")) or arrays["class_names"].ndim != 1:
        raise InputError(f"{path.name}: scans and slices must have one entry a slice, and class_names one a class")
    surfaces = [arrays[name].shape for name in _SURFACES if name in arrays]
    if len(surfaces) == 1 or (surfaces and (len(surfaces[0]) != 3 or surfaces[0] != surfaces[1])):
        raise InputError(f"{path.name}: surface_truth and surface_prediction must be volumes of one shape")
    return arrays


def _sheet(clinic: Clinic, columns: dict[str, dict[str, Any]], trouble: Sequence[str]) -> Sheet:
    title = f"{clinic.heading}: masks" if clinic.heading else "Masks"
    left_out = f" Left out: {'; '.join(trouble)}." if trouble else ""
    first = next(iter(columns.values()), {"images": ()})
    if not len(first["images"]):
        return Sheet(title=title, note=f"There are no pictures.{left_out}")
    names = [str(name) for name in first["class_names"]][1:]
    colours = ", ".join(f"{name} {COLOUR_NAMES[place % len(COLOUR_NAMES)]}" for place, name in enumerate(names))
    note = f"Middle slices of test scans, the part with any mask; contours: {colours}. Below a mask the Dice score of"
    return Sheet(
        title=title,
        note=f"{note} this slice, mean over the classes that are in it.{left_out}",
        head=("image", "truth", *columns),
        rows=[_row(columns, first, i) for i in range(min(len(first["images"]), _MOST_IMAGES))],
        legend=[(_swatch(place + 1), name) for place, name in enumerate(names)],
    )


def _swatch(number: int) -> Markup:
    colour = ",".join(str(round(255 * value)) for value in class_colour(number))
    box = f'<rect x="8" y="1" width="12" height="10" fill="rgb({colour})" stroke="var(--muted)" stroke-width="0.6"/>'
    return Markup(f'<svg class="swatch" viewBox="0 0 28 12" aria-hidden="true">{box}</svg>')


def _row(columns: dict[str, dict[str, Any]], first: dict[str, Any], i: int) -> list[Shown]:
    name, truth = f"{first['scans'][i]}, slice {int(first['slices'][i]) + 1}", first["truth"][i]
    part = window([truth, *(arrays["prediction"][i] for arrays in columns.values())])
    image = first["images"][i][part]
    row = [
        _shown(overlaid(image), f"Slice of {name}", name),
        _shown(overlaid(image, truth[part]), f"Truth of {name}", ""),
    ]
    for method, arrays in columns.items():
        found = arrays["prediction"][i]
        row.append(_shown(overlaid(image, found[part]), f"Mask of {name} by {method}", _dice_words(found, truth)))
    return row


def _shown(pixels: Any, alt: str, words: str) -> Shown:
    return Shown(picture=Picture(source=inline(png(pixels)), words=alt), words=words)


def _dice_words(found: Any, truth: Any) -> str:
    import numpy as np

    scores = [
        2 * ((found == c) & (truth == c)).sum() / ((found == c).sum() + (truth == c).sum())
        for c in np.union1d(found[found > 0], truth[truth > 0])
    ]
    return f"Dice {np.mean(scores):.2f}" if scores else "empty, as the truth"


def _surfaces(clinic: Clinic, columns: dict[str, dict[str, Any]]) -> Sheet:
    """Return the surfaces of the first test scan, seen from two sides."""
    import numpy as np

    first = next(arrays for arrays in columns.values() if "surface_truth" in arrays)
    volumes = {"truth": first["surface_truth"] > 0}
    volumes |= {
        name: arrays["surface_prediction"] > 0
        for name, arrays in columns.items()
        if "surface_truth" in arrays and np.array_equal(arrays["surface_truth"], first["surface_truth"])
    }
    rows = []
    for axis, words in ((1, "from the front"), (0, "from the side")):
        part = window([volume.any(axis) for volume in volumes.values()])
        rows.append([])
        for name, volume in volumes.items():
            seen = np.moveaxis(volume, axis, 0)[:, *part]
            rows[-1].append(_shown(surface(seen, 0), f"Surface of {name}, seen {words}", words))
    title = f"{clinic.heading}: surfaces" if clinic.heading else "Surfaces"
    note = f"What is not background in the test scan {first['scans'][0]}, all classes in one, lit from above and ahead."
    return Sheet(title=title, note=note, head=tuple(volumes), rows=rows)
