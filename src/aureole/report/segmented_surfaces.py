"""The surface of a volume as a shaded picture: how far each ray goes until it meets the mask gives slope and light."""

from __future__ import annotations

from typing import Any

from aureole.report.scan_pictures import class_colour

_SIDE = 224
_LIGHT = (-0.45, -0.4, 0.8)  # from the upper left, ahead: along rows, along columns, towards the eye
_BACK = 0.96
_STEP = 2.5  # voxels; where the depth changes by more, one part stands before another


def surface(mask: Any, axis: int) -> Any:
    """Return a shaded picture (H, W, 3) of the surface of a volume, seen along an axis.

    Each pixel looks into the volume until it meets the mask; how far that is gives the surface and its slope. Depths
    are smoothed as far as they belong to one surface, so that the stairs of the voxels do not hide the shape.

    Args:
        mask: what is inside, bool, shape (d1, d2, d3).
        axis: along which it is seen; of the two others the later one points up.

    Example:
        >>> import numpy as np
        >>> from aureole.report.segmented_surfaces import surface
        >>> ball = np.sum((np.indices((9, 9, 9)) - 4) ** 2, axis=0) <= 9
        >>> drawn = surface(ball, 0)
        >>> bool((drawn[80, 80] < drawn[0, 0]).all())
        True
    """
    import numpy as np

    seen = np.moveaxis(np.asarray(mask, dtype=bool), axis, 0)
    hit = np.rot90(seen.any(0))
    depth = np.rot90(np.where(seen.any(0), seen.argmax(0), np.nan).astype(float))
    scale = _SIDE / max(depth.shape)
    size = (max(1, round(depth.shape[1] * scale)), max(1, round(depth.shape[0] * scale)))
    if not hit.any():
        return np.full((size[1], size[0], 3), _BACK)
    for _ in range(6):
        depth = np.where(hit, _mean_of_near(depth), np.nan)
    down, along = _slope(depth), _slope(depth.T).T
    light = (_LIGHT[0] * down + _LIGHT[1] * along + _LIGHT[2]) / np.sqrt(down**2 + along**2 + 1)
    shade = 0.32 + 0.68 * light.clip(0, 1) - 0.22 * _farness(depth)
    for _ in range(3):  # beyond the rim, so that it is not blurred with what is outside
        shade = np.where(np.isfinite(shade), shade, _mean_of_near(shade))
    rounded = _mean_of_near(np.where(hit, 0.9, 0.1))
    cover = ((_resized(rounded, size) - 0.35) / 0.3).clip(0, 1)[..., None]
    drawn = _resized(np.nan_to_num(shade), size)[..., None].clip(0, 1) * np.array(class_colour(1))
    return cover * drawn + (1 - cover) * _BACK


def _slope(depth: Any) -> Any:
    """Return the rise from row to row within one surface; 0 where a place has no neighbour on it."""
    import numpy as np

    step = np.diff(depth, axis=0)
    step = np.pad(np.where(np.abs(step) < _STEP, step, np.nan), ((1, 1), (0, 0)), constant_values=np.nan)
    both = np.stack([step[:-1], step[1:]])
    known = np.isfinite(both)
    return np.where(known, both, 0.0).sum(0) / np.maximum(known.sum(0), 1)


def _farness(depth: Any) -> Any:
    """Return depths from 0, nearest, to 1, farthest: what lies farther back is a little darker."""
    import numpy as np

    low, high = float(np.nanmin(depth)), float(np.nanmax(depth))
    return (depth - low) / ((high - low) or 1.0)


def _mean_of_near(depth: Any) -> Any:
    """Return the mean over the 3 x 3 places around each that are known and, where it is known, about as deep."""
    import numpy as np

    wide = np.pad(depth, 1, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(wide, (3, 3))
    centre = np.where(np.isfinite(depth), depth, np.nan)[..., None, None]
    near = np.isfinite(around) & (np.isnan(centre) | (np.abs(around - centre) < _STEP))
    counted = near.sum((2, 3))
    return np.where(counted > 0, np.where(near, around, 0.0).sum((2, 3)) / np.maximum(counted, 1), np.nan)


def _resized(values: Any, size: tuple[int, int]) -> Any:
    import numpy as np
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
