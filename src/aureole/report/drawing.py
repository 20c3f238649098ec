"""How maps of pixels that matter are drawn: in grey, as heat, over the picture, and as a contour of what is highest."""

from __future__ import annotations

import base64
import io
from typing import Any

#: Of what a mask marks, and of the highest scores of a map.
MASK_COLOUR, TOP_COLOUR = (0.1, 0.9, 0.25), (0.25, 0.9, 1.0)


def pixels_of(image: Any) -> Any:
    """Return an image (C, H, W) as pixels (H, W, 3): colour for three channels, else the grey of their mean."""
    import numpy as np

    image = np.asarray(image, dtype=np.float64)
    return np.moveaxis(image, 0, -1) if len(image) == 3 else np.repeat(image.mean(axis=0)[..., None], 3, axis=-1)


def scaled(scores: Any) -> Any:
    """Return a map (H, W) from its least score, 0, to its greatest, 1; one that is the same everywhere is 0.

    Example:
        >>> scaled([[1.0, 3.0], [2.0, 1.0]]).tolist(), scaled([[5.0, 5.0]]).tolist()
        ([[0.0, 1.0], [0.5, 0.0]], [[0.0, 0.0]])
    """
    import numpy as np

    finite = np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return (finite - finite.min()) / (float(finite.max() - finite.min()) or 1.0)


def heat(scores: Any) -> Any:
    """Return the colours (H, W, 3) of a map (H, W), from black for its least score to light yellow."""
    import matplotlib as mpl

    return mpl.colormaps["inferno"](scaled(scores))[..., :3]


def overlay(pixels: Any, scores: Any, strength: float = 0.55) -> Any:
    """Return the greys of a picture (H, W, 3) under the heat of its map, of which ``strength`` is the share."""
    grey = pixels.mean(axis=-1, keepdims=True)
    return (1 - strength) * grey + strength * heat(scores)


def top_pixels(scores: Any, count: int) -> Any:
    """Return which pixels (H, W) have the ``count`` highest scores, the first in reading order where they are equal.

    Example:
        >>> top_pixels([[0.0, 2.0], [2.0, 2.0]], 2).tolist()
        [[False, True], [True, False]]
    """
    import numpy as np

    scores = np.asarray(scores)
    chosen = np.zeros(scores.size, dtype=bool)
    chosen[np.argsort(-scores.ravel(), kind="stable")[:count]] = True
    return chosen.reshape(scores.shape)


def outlined(pixels: Any, marked: Any, colour: tuple[float, float, float]) -> Any:
    """Return a picture (H, W, 3) with the rim of what is marked (H, W); it lies inside, and is wider in a large one."""
    import numpy as np

    marked = np.asarray(marked, dtype=bool)
    inner = marked
    for _ in range(max(1, max(marked.shape) // 96)):
        wide = np.pad(inner, 1)
        inner = inner & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    drawn = np.array(pixels, dtype=np.float64)
    drawn[marked & ~inner] = colour
    return drawn


def fitted(values: Any, side: int) -> Any:
    """Return values (H, W) or (H, W, C) so that the longer side is about ``side``: a larger picture is averaged.

    A smaller one is enlarged by a whole number, as far as that fits; its pixels stay squares.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(values, dtype=np.float64)
    height, width = values.shape[:2]
    longest = max(height, width)
    if longest <= side:
        times = max(1, side // longest)
        return values.repeat(times, axis=0).repeat(times, axis=1)
    size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
    planes = np.atleast_3d(values)
    made = [
        np.asarray(Image.fromarray(planes[..., c].astype(np.float32)).resize(size, Image.Resampling.BOX))
        for c in range(planes.shape[2])
    ]
    return np.stack(made, axis=-1).reshape(*made[0].shape, *values.shape[2:])


def png(values: Any) -> bytes:
    """Return a PNG of 8 bits from values in [0, 1]: colour for (H, W, 3), grey for (H, W)."""
    import numpy as np
    from PIL import Image

    levels = np.round(np.nan_to_num(np.asarray(values), nan=0.5).clip(0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def inline(content: bytes) -> str:
    """Return an address that holds a PNG."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
