"""How masks are drawn over a slice: its part with any class, enlarged, each class in a tint with a contour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aureole.report.scan_pictures import class_colour, contoured

_SIDE = 224
_AROUND, _LEAST = 0.3, 48  # of the larger side of what is marked; pixels
_TINT = 0.22


def window(masks: Sequence[Any]) -> tuple[slice, slice]:
    """Return the square around everything that any of some masks (H, W) marks, with some room, as far as there is any.

    Args:
        masks: class of each pixel; of one shape.

    Returns:
        Which rows and which columns; all of them where nothing is marked.

    Example:
        >>> import numpy as np
        >>> from aureole.report.segmented_overlays import window
        >>> mask = np.zeros((200, 180), dtype=int)
        >>> mask[20:120, 60:100] = 1
        >>> window([mask]), window([mask * 0])
        ((slice(0, 160, None), slice(0, 160, None)), (slice(0, 200, None), slice(0, 180, None)))
    """
    import numpy as np

    marked = np.any([np.asarray(mask) > 0 for mask in masks], axis=0)
    if not marked.any():
        return slice(0, marked.shape[0]), slice(0, marked.shape[1])
    places = [np.flatnonzero(marked.any(axis=1 - axis)) for axis in (0, 1)]
    extent = max(int(found[-1] - found[0]) + 1 for found in places)
    side = max(_LEAST, round((1 + 2 * _AROUND) * extent))
    rows, columns = (
        _span((int(found[0]) + int(found[-1]) + 1) / 2, side, size)
        for found, size in zip(places, marked.shape, strict=True)
    )
    return rows, columns


def _span(middle: float, side: int, size: int) -> slice:
    side = min(side, size)
    start = min(max(0, round(middle - side / 2)), size - side)
    return slice(start, start + side)


def overlaid(image: Any, classes: Any | None = None, *, levels: int = 32) -> Any:
    """Return a slice (h, w) in [0, 1] as a picture (H, W, 3), enlarged, with its classes in colours.

    Args:
        image: grey levels.
        classes: class of each pixel; None draws the slice alone.
        levels: of grey, so that the file stays small.
    """
    import numpy as np
    from PIL import Image

    height, width = image.shape
    scale = _SIDE / max(height, width, 1)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0).clip(0, 1)
    drawn = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    pixels = np.repeat((np.round(drawn * (levels - 1)) / (levels - 1))[..., None], 3, axis=-1).astype(np.float64)
    if classes is None:
        return pixels
    marks = _enlarged(classes, size)
    for number in np.unique(marks[marks > 0]):
        inside = marks == number
        pixels[inside] = (1 - _TINT) * pixels[inside] + _TINT * np.asarray(class_colour(int(number)))
    return contoured(pixels, marks)


def _enlarged(classes: Any, size: tuple[int, int]) -> Any:
    """Return the class that weighs most at each place between the pixels: the rims become smooth."""
    import numpy as np
    from PIL import Image

    classes = np.asarray(classes)
    numbers = np.unique(classes)
    shares = [
        np.asarray(Image.fromarray((classes == number).astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        for number in numbers
    ]
    return numbers[np.argmax(shares, axis=0)]
