"""A set of labelled images that stay on the disk and are decoded on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from aureole.core.errors import InputError
from aureole.data.images import Images, check_indices, check_labels

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

_SAMPLED_ROWS = 1024
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")


def mode_for(image: Image, where: str) -> str:
    """Return the mode that an image is read in: ``"L"`` for grey, ``"RGB"`` for colour.

    Raises:
        InputError: the pixels have more than 8 bits.
    """
    if image.mode in _GREY_MODES:
        return "L"
    if image.mode in _COLOUR_MODES:
        return "RGB"
    raise InputError(f"{where} must have 8 bits a channel; got the mode {image.mode}: convert the images to 8 bits")


def decode(value: dict[str, Any] | Image | None, where: str) -> Image:
    """Return the image of one row: decoded already, or encoded as ``{"bytes", "path"}``.

    Raises:
        InputError: the bytes are no image, or one of colours of 16 bits, of which the decoder would drop the lower 8.
    """
    from datasets import Image as ImageFeature

    if value is None:
        raise InputError(f"{where} has no image; leave the row out")
    try:
        if isinstance(value, dict) and _is_deep(value):
            raise InputError(f"{where} must have 8 bits a channel; got a PNG of 16 bits: convert the images to 8 bits")
        return ImageFeature().decode_example(value)  # pyright: ignore[reportArgumentType]
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{where} cannot be decoded: {str(error).splitlines()[0]}") from error


def _is_deep(value: dict[str, Any]) -> bool:
    """Say whether an encoded image is a PNG of colours with 16 bits a channel, by its header."""
    head = value.get("bytes")
    if head is None:
        path = Path(value.get("path") or "")
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(26)
    return len(head) >= 26 and head[:8] == b"\x89PNG\r\n\x1a\n" and head[24] == 16 and head[25] in (2, 6)


def to_array(image: Image, mode: str, where: str) -> UInt8[np.ndarray, "channels height width"]:
    """Return the pixels of an image in ``mode``, ``"L"`` or ``"RGB"``."""
    if image.mode != mode:
        mode_for(image, where)
        image = (image.convert("RGBA") if "transparency" in image.info else image).convert(mode)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


@dataclass(frozen=True, eq=False)
class Streamed:
    """Labelled images that stay on the disk and are decoded when a batch asks for them.

    Attributes:
        dataset: a 🤗 data set whose ``column`` is of type ``Image(decode=False)``.
        column: the column of the images.
        rows: the place in ``dataset`` of each image of this set, int64, shape (n,).
        labels: int64 in 0 to the number of classes - 1, shape (n,).
        class_names: a name for each class.
        mode: ``"L"`` or ``"RGB"``: all images are converted to it.
        image_shape: channels, height and width that every image must have.
        name: what a person calls the set.

    Raises:
        InputError: a label is out of range; or later, from ``batch``, an image is unreadable or differs in size.
    """

    dataset: Dataset
    column: str
    rows: Int64[Tensor, " n"]
    labels: Int64[Tensor, " n"]
    class_names: tuple[str, ...]
    mode: str
    image_shape: tuple[int, int, int]
    name: str = "images"

    def __post_init__(self) -> None:
        check_labels(self.labels, len(self.class_names), self.name)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of a SHA-256 of shape, labels, class names and 1,024 evenly spaced encoded images."""
        digest = hashlib.sha256(repr((self.image_shape, self.class_names, self.mode)).encode())
        digest.update(self.labels.contiguous().numpy().data)
        for row in torch.linspace(0, len(self) - 1, min(len(self), _SAMPLED_ROWS)).long().unique():
            value = self.dataset[int(self.rows[row])][self.column]
            digest.update(to_array(decode(value, self._where(int(row))), self.mode, self.name).tobytes())
        return digest.hexdigest()[:16]

    def batch(self, indices: Int64[Tensor, " batch"]) -> UInt8[Tensor, "batch channels height width"]:
        """Return the images at these places, read and decoded now."""
        places = indices.tolist()
        values = self.dataset[self.rows[indices].tolist()][self.column]
        where = [self._where(place) for place in places]
        arrays = [to_array(decode(v, w), self.mode, w) for v, w in zip(values, where, strict=True)]
        return torch.from_numpy(stack_equal(arrays, self.image_shape, places, self.name))

    def subset(self, indices: Int64[Tensor, " m"]) -> Streamed:
        """Return the set of the images at these places, in this order; nothing is read."""
        check_indices(indices, len(self), self.name)
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def _where(self, row: int) -> str:
        return f"row {row} of {self.name}"


def stack_equal(
    arrays: Sequence[np.ndarray], shape: tuple[int, int, int], rows: Sequence[int], name: str
) -> UInt8[np.ndarray, "n channels height width"]:
    """Stack arrays that must all have ``shape``; ``rows`` and ``name`` are for the message.

    Raises:
        InputError: the images differ in size.
    """
    for row, array in zip(rows, arrays, strict=True):
        if array.shape != shape:
            raise InputError(
                f"all images of {name} must be {shape[1]}x{shape[2]} pixels like the first; "
                f"row {row} is {array.shape[1]}x{array.shape[2]}: resize them to one size beforehand"
            )
    return np.stack(arrays)


#: A set of labelled images, whichever way it is kept; both have the same read-only surface.
ImageSet = Images | Streamed
