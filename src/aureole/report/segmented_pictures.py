"""Pictures of segmentations (thesis, Figure 6.3): every method's masks beside the truth, and surfaces of a volume."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aureole.core.errors import InputError
from aureole.core.records import Record
from aureole.report.drawing import fitted, inline, png
from aureole.report.pictures import Picture
from aureole.report.refined_pictures import Sheet, Shown
from aureole.report.scan_pictures import COLOUR_NAMES, class_colour, contoured
from aureole.report.segmented_rows import Clinic, Masks, clinics

MASKS_NAME = "masks.npz"
_MOST_SHEETS, _MOST_IMAGES, _SIDE = 8, 4, 224
_NEEDED = ("images", "truth", "prediction", "scans", "slices", "class_names")
_LIGHT = (0.45, -0.45, 0.77)  # from where a surface is lit


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
    """Return the arrays of each method that has the same slices as the first, and what is wrong with the others."""
    import numpy as np

    columns: dict[str, dict[str, Any]] = {}
    trouble = []
    for masks in clinic.masks:
        try:
            arrays = read_masks(homes[id(_first(masks))] / MASKS_NAME)
        except InputError as error:
            trouble.append(f"{masks.name}: {error}")
            continue
        first = next(iter(columns.values()), arrays)
        if arrays["truth"].shape == first["truth"].shape and np.array_equal(arrays["scans"], first["scans"]):
            columns[masks.name] = arrays
        else:
            trouble.append(f"{masks.name}: its slices are others")
    return columns, trouble


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
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} is not a complete npz file without objects: repeat the run") from error
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise InputError(f"{path.name} has no array {missing[0]!r}: repeat the run")
    shape = arrays["images"].shape
    if len(shape) != 3 or not all(arrays[name].shape == shape for name in ("truth", "prediction")):
        raise InputError(f"{path.name}: images, truth and prediction must have one shape (slices, height, width)")
    return arrays


def _sheet(clinic: Clinic, columns: dict[str, dict[str, Any]], trouble: Sequence[str]) -> Sheet:
    title = f"{clinic.heading}: masks" if clinic.heading else "Masks"
    left_out = f" Left out: {'; '.join(trouble)}." if trouble else ""
    if not columns:
        return Sheet(title=title, note=f"There are no pictures.{left_out}")
    first = next(iter(columns.values()))
    names = [str(name) for name in first["class_names"]][1:]
    colours = ", ".join(f"{name} {COLOUR_NAMES[place % len(COLOUR_NAMES)]}" for place, name in enumerate(names))
    rows = [_row(columns, first, i) for i in range(min(len(first["images"]), _MOST_IMAGES))]
    note = f"Middle slices of test scans with the contour of each class: {colours}. Below a mask the Dice score of this"
    return Sheet(
        title=title,
        note=f"{note} slice, mean over the classes that are in it.{left_out}",
        head=("image", "truth", *columns),
        rows=rows,
    )


def _row(columns: dict[str, dict[str, Any]], first: dict[str, Any], i: int) -> list[Shown]:
    name, image, truth = f"{first['scans'][i]}, slice {int(first['slices'][i])}", first["images"][i], first["truth"][i]
    row = [_shown(_grey(image), f"Slice of {name}", name), _shown(_marked(image, truth), f"Truth of {name}", "")]
    for method, arrays in columns.items():
        found = arrays["prediction"][i]
        row.append(_shown(_marked(image, found), f"Mask of {name} by {method}", _dice_words(found, truth)))
    return row


def _shown(pixels: Any, alt: str, words: str) -> Shown:
    return Shown(picture=Picture(source=inline(png(pixels)), words=alt), words=words)


def _grey(image: Any) -> Any:
    import numpy as np

    return np.repeat(fitted(image.clip(0, 1), _SIDE)[..., None], 3, axis=-1)


def _marked(image: Any, classes: Any) -> Any:
    import numpy as np

    pixels = _grey(image)
    rows, columns = (np.arange(n) * size // n for n, size in zip(pixels.shape[:2], classes.shape, strict=True))
    return contoured(pixels, classes[rows][:, columns])


def _dice_words(found: Any, truth: Any) -> str:
    import numpy as np

    scores = [
        2 * ((found == c) & (truth == c)).sum() / ((found == c).sum() + (truth == c).sum())
        for c in np.union1d(found[found > 0], truth[truth > 0])
    ]
    return f"Dice {np.mean(scores):.2f}" if scores else "empty, as the truth"


def _surfaces(clinic: Clinic, columns: dict[str, dict[str, Any]]) -> Sheet:
    """Return the surfaces of the first test scan, seen from two sides."""
    kept = {name: arrays for name, arrays in columns.items() if "surface_truth" in arrays}
    first = next(iter(kept.values()))
    volumes = {"truth": first["surface_truth"]} | {name: found["surface_prediction"] for name, found in kept.items()}
    rows = []
    for axis, words in ((1, "from the front"), (0, "from the side")):
        drawn = {name: surface(volume > 0, axis) for name, volume in volumes.items()}
        rows.append([_shown(pixels, f"Surface of {name}, seen {words}", words) for name, pixels in drawn.items()])
    title = f"{clinic.heading}: surfaces" if clinic.heading else "Surfaces"
    note = f"What is not background in the test scan {first['scans'][0]}, all classes in one, lit from above and ahead."
    return Sheet(title=title, note=note, head=tuple(volumes), rows=rows)


def surface(mask: Any, axis: int) -> Any:
    """Return a shaded picture (side, side, 3) of the surface of a volume, seen along an axis.

    Each pixel looks into the volume until it meets the mask; how far that is gives the surface and its slope.

    Args:
        mask: what is inside, bool, shape (d1, d2, d3).
        axis: along which it is seen.

    Example:
        >>> import numpy as np
        >>> from aureole.report.segmented_pictures import surface
        >>> ball = np.sum((np.indices((9, 9, 9)) - 4) ** 2, axis=0) <= 9
        >>> drawn = surface(ball, 0)
        >>> bool((drawn[80, 80] < drawn[0, 0]).all())
        True
    """
    import numpy as np

    seen = np.moveaxis(mask, axis, 0)
    hit = seen.any(0)
    depth = np.where(hit, seen.argmax(0), 0).astype(float)
    flat = np.pad(np.where(hit, depth, np.nan), 1, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(flat, (3, 3))
    known = np.isfinite(around)
    smooth = np.where(known, around, 0).sum((2, 3)) / np.maximum(known.sum((2, 3)), 1)
    down, along = np.gradient(np.where(hit, smooth, depth[hit].max() if hit.any() else 0.0))
    length = np.sqrt(down**2 + along**2 + 1)
    light = (_LIGHT[0] * -down + _LIGHT[1] * along + _LIGHT[2]) / length
    shade = 0.25 + 0.7 * light.clip(0, 1)
    colour = np.array(class_colour(1))
    pixels = np.where(hit[..., None], shade[..., None] * colour, 0.96)
    pixels = np.rot90(pixels)  # the last axis of a scan points to the head
    return np.stack([fitted(pixels[..., channel], _SIDE) for channel in range(3)], axis=-1)
