"""One picture or mask of a person's own data, read strictly: what would be read wrongly is refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from aureole.core.errors import InputError
from aureole.data.streamed import decode, mode_for, to_array

if TYPE_CHECKING:
    from PIL.Image import Image

_WRITTEN_LOSSY = ("JPEG", "WEBP")


def read_picture(value: dict[str, Any] | Image | None, mode: str | None, where: str) -> UInt8[Tensor, "c h w"]:
    """Return the pixels of a picture, grey or RGB.

    Args:
        value: as :func:`aureole.data.streamed.decode` takes it.
        mode: ``"L"`` or ``"RGB"``; None for that of the picture.
        where: names the picture in a message.

    Raises:
        InputError: it is unreadable, has more than 8 bits a channel, or is CMYK, whose colours depend on a profile.
    """
    image = decode(value, where)
    if image.mode == "CMYK":
        raise InputError(f"{where} must be grey or RGB; got CMYK, made for print: convert the picture to RGB")
    return torch.from_numpy(to_array(image, mode or mode_for(image, where), where).copy())


def read_mask(
    value: dict[str, Any] | Image | None, size: tuple[int, int], where: str, *, dark: bool = False
) -> Bool[Tensor, "h w"]:
    """Return which pixels a mask marks: those that are not 0, or the dark ones.

    In a JPEG or WebP, whose edges are smeared, the brighter half counts as marked.

    Args:
        value: as :func:`aureole.data.streamed.decode` takes it.
        size: height and width of the image it belongs to, in pixels.
        where: names the image in a message.
        dark: whether 0 marks, on a bright background.

    Raises:
        InputError: it is unreadable, transparent, or of another size than the image.
    """
    image = decode(value, f"the mask of {where}")
    lossy = image.format in _WRITTEN_LOSSY
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        raise InputError(f"the mask of {where} must have no transparency; got the mode {image.mode}: save it in grey")
    if image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    values = np.asarray(image)
    if values.shape[:2] != size:
        raise InputError(
            f"the mask of {where} must be {size[0]}x{size[1]} pixels like its image; "
            f"got {values.shape[0]}x{values.shape[1]}: resize it without interpolation"
        )
    marked = values > (127 if lossy else 0)
    marked = marked.any(2) if marked.ndim == 3 else marked
    return torch.from_numpy(marked ^ dark)


def box_mask(
    boxes: Any, size: tuple[int, int], frame: tuple[int, int] | None, where: str
) -> Bool[Tensor, "h w"] | None:
    """Return the pixels that one or several boxes touch; None without a box.

    Args:
        boxes: x0, y0, x1, y1 in pixels, the last ones inside, or a list of such.
        size: height and width of the image, in pixels.
        frame: height and width of the frame that the boxes are given in; None for that of the image.
        where: names the image in a message.

    Raises:
        InputError: a box has not four numbers, or reaches beyond its frame.

    Example:
        >>> box_mask([2, 2, 3, 5], (4, 4), (8, 8), "an image").long().tolist()
        [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    """
    if boxes is None or len(boxes) == 0:
        return None
    try:
        table = np.atleast_2d(np.asarray(boxes, dtype=float))
    except (TypeError, ValueError):
        table = np.empty((0, 0))
    height, width = frame or size
    last = np.array([width, height, width, height]) - 1
    fine = table.ndim == 2 and table.shape[1] == 4 and bool(((table >= 0) & (table <= last)).all())
    if not fine or (table[:, :2] > table[:, 2:]).any():
        raise InputError(
            f"the box of {where} must be x0, y0, x1, y1 inside a frame of {height}x{width} pixels, x0 <= x1 and "
            f"y0 <= y1; got {boxes}: set box_frame to the height and width that the boxes are given in"
        )
    mask = torch.zeros(size, dtype=torch.bool)
    scale = np.array([size[1] / width, size[0] / height])
    for box in table:
        x0, y0 = np.floor(box[:2] * scale).astype(int)
        x1, y1 = np.ceil((box[2:] + 1) * scale).astype(int)
        mask[y0:y1, x0:x1] = True
    return mask
