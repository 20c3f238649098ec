"""A picture of a segmented scan: its middle slices, and on them the contour of each class in its own colour."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aureole.report.drawing import outlined, png

#: Of class 1, class 2, and so on; people who see few colours tell the first four apart, too.
CLASS_COLOURS = (
    (1.0, 0.62, 0.1), (0.25, 0.75, 1.0), (1.0, 0.35, 0.75), (0.3, 0.9, 0.45), (1.0, 0.95, 0.35), (1.0, 0.35, 0.25),
    (0.65, 0.55, 1.0), (0.75, 0.85, 0.85),
)  # fmt: skip
#: What people call them.
COLOUR_NAMES = ("orange", "blue", "pink", "green", "yellow", "red", "violet", "grey")
_MOST_SLICES = 3
_SIDE, _GAP, _MARGIN, _HEAD, _FOOT, _NARROWEST = 288, 8, 12, 66, 28, 480
_INK, _MUTED = (0.95, 0.95, 0.95), (0.68, 0.68, 0.68)
_ENDS = ("RL", "AP", "SI")  # the two ends of each axis of the room, from its larger coordinate


@dataclass(frozen=True, kw_only=True)
class ScanPicture:
    """A scan with its classes, ready to be drawn.

    Args:
        title: what stands above it.
        image: voxels, float, shape (d1, d2, d3).
        classes: class of each voxel, of the same shape.
        legend: words for class 1, class 2, and so on.
        slice_axis: which axis goes through the slices.
        spacing: of the voxels along each axis; None takes cubes.
        affine: from voxel numbers to millimetres, shape (4, 4); None where nobody knows which way is up.
        truth: true class of each voxel; None where it is not known.
    """

    title: str
    image: Any
    classes: Any
    legend: Sequence[str]
    slice_axis: int = 0
    spacing: Sequence[float] | None = None
    affine: Any | None = None
    truth: Any | None = None

    def png(self) -> bytes:
        """Return the picture as PNG: the slices, below them with contours, and below them the true ones if known.

        Example:
            >>> import numpy as np
            >>> classes = np.zeros((5, 8, 9), dtype=np.uint8)
            >>> ScanPicture(title="a scan", image=np.ones((5, 8, 9)), classes=classes, legend=["heart"]).png()[1:4]
            b'PNG'
        """
        view, image = _View.of(self), windowed(self.image)
        numbers = chosen_slices(self.classes, self.slice_axis)
        rows: list[tuple[str, Any]] = [("scan", None), ("network", self.classes)]
        rows += [] if self.truth is None else [("label", self.truth)]
        sheet = _Sheet.of(*view.size, len(rows), len(numbers), self.legend)
        sheet.write((_MARGIN, _MARGIN), self.title, 17, room=sheet.values.shape[1] - 2 * _MARGIN)
        for column, number in enumerate(numbers):
            words = f"slice {number + 1} of {self.classes.shape[self.slice_axis]}"
            sheet.write((sheet.left(column), _HEAD - 22), words, 13, _MUTED)
            for row, (_, marks) in enumerate(rows):
                sheet.paste(row, column, self._panel(view, image, marks, number))
        for row, (name, _) in enumerate(rows):
            sheet.write((sheet.left(0) + 6, sheet.top(row) + sheet.height - 22), name, 13)
        for text, (x, y) in zip(view.letters, ((4, sheet.height // 2 - 8), (sheet.width // 2 - 5, 3)), strict=False):
            sheet.write((sheet.left(0) + x, sheet.top(0) + y), text, 15)
        sheet.draw_legend()
        return png(sheet.values)

    def _panel(self, view: _View, image: Any, marks: Any | None, number: int) -> Any:
        """Return one slice in colours, with the contours of the marks."""
        import numpy as np

        plane = view.plane(np.take(image, number, axis=self.slice_axis), smooth=True)
        pixels = np.repeat(plane[..., None], 3, axis=-1)
        if marks is None:
            return pixels
        return contoured(pixels, view.plane(np.take(marks, number, axis=self.slice_axis), smooth=False))


def class_colour(number: int) -> tuple[float, float, float]:
    """Return the colour of a class, from 1; beyond the eighth they come again.

    Example:
        >>> class_colour(1) == class_colour(9) == CLASS_COLOURS[0]
        True
    """
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def contoured(pixels: Any, classes: Any) -> Any:
    """Return a picture (H, W, 3) with the rim of each class (H, W) but class 0, in its colour.

    Example:
        >>> import numpy as np
        >>> classes = np.array([[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]])
        >>> drawn = contoured(np.zeros((3, 4, 3)), classes)
        >>> drawn[1, 1].tolist() == list(class_colour(1)), drawn[1, 2].any().item(), drawn[0, 0].any().item()
        (True, False, False)
    """
    import numpy as np

    for number in np.unique(classes[classes > 0]):
        pixels = outlined(pixels, classes == number, class_colour(int(number)))
    return pixels


def chosen_slices(classes: Any, slice_axis: int) -> list[int]:
    """Return the numbers of three slices at a quarter, the middle and three quarters of those with any class but 0.

    Where there is none, of all slices; fewer where there are fewer.

    Example:
        >>> import numpy as np
        >>> classes = np.zeros((20, 4, 4), dtype=int)
        >>> classes[8:17, 1, 1] = 1
        >>> chosen_slices(classes, 0), chosen_slices(classes * 0, 0)
        ([10, 12, 14], [5, 10, 14])
    """
    import numpy as np

    marked = np.moveaxis(np.asarray(classes) > 0, slice_axis, 0)
    marked = np.flatnonzero(marked.reshape(len(marked), -1).any(axis=1))
    first, last = (marked[0], marked[-1]) if len(marked) else (0, classes.shape[slice_axis] - 1)
    places = first + (last - first) * np.arange(1, _MOST_SLICES + 1) / (_MOST_SLICES + 1)
    return [int(place) for place in np.unique(np.floor(places + 0.5).astype(int))]


def windowed(image: Any) -> Any:
    """Return grey levels in [0, 1]: from the 1st to the 99.5th percentile of a scan's voxels.

    Example:
        >>> windowed([[0.0, 5.0, 10.0]]).round(2).tolist()
        [[0.0, 0.5, 1.0]]
    """
    import numpy as np

    values = np.asarray(image, dtype=np.float64)
    flat = values.ravel()[:: max(1, values.size // 1_000_000)]  # a million voxels tell
    low, high = (float(value) for value in np.percentile(flat, (1, 99.5)))
    return ((values - low) / ((high - low) or 1.0)).clip(0, 1)


@dataclass(frozen=True, kw_only=True)
class _View:
    """How slices are turned, so that up is up, and how large they are drawn."""

    transposed: bool
    flipped: tuple[bool, bool]
    letters: tuple[str, ...]
    size: tuple[int, int]

    @classmethod
    def of(cls, picture: ScanPicture) -> _View:
        axes = [axis for axis in range(3) if axis != picture.slice_axis]
        lengths = [picture.image.shape[axis] * (picture.spacing[axis] if picture.spacing else 1.0) for axis in axes]
        if picture.affine is None:
            transposed, flipped, letters = picture.slice_axis == 2, (False, False), ()
        else:
            room = _room_axes(picture.affine)
            transposed = room[axes[0]][0] < room[axes[1]][0]  # across lies the first of the room's axes
            down, across = (axes[1], axes[0]) if transposed else (axes[0], axes[1])
            flipped = (room[down][1], room[across][1])
            letters = (_ENDS[room[across][0]][0], _ENDS[room[down][0]][0])
        height, width = lengths[::-1] if transposed else lengths
        scale = _SIDE / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        return cls(transposed=transposed, flipped=flipped, letters=letters, size=size)

    def plane(self, values: Any, *, smooth: bool) -> Any:
        """Return a slice as it is drawn."""
        import numpy as np
        from PIL import Image

        turned = np.asarray(values, dtype=np.float32)
        turned = turned.T if self.transposed else turned
        turned = turned[:: -1 if self.flipped[0] else 1, :: -1 if self.flipped[1] else 1]
        how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
        drawn = np.asarray(Image.fromarray(np.ascontiguousarray(turned)).resize((self.size[1], self.size[0]), how))
        return drawn.clip(0, 1) if smooth else np.rint(drawn).astype(np.int64)


def _room_axes(affine: Any) -> list[tuple[int, bool]]:
    """Return, for each axis of voxels, the nearest one of the room (right, anterior, superior), and if along it."""
    import numpy as np

    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    columns = columns / np.linalg.norm(columns, axis=0)
    near = max(itertools.permutations(range(3)), key=lambda rows: sum(abs(columns[r, c]) for c, r in enumerate(rows)))
    return [(row, bool(columns[row, column] > 0)) for column, row in enumerate(near)]


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    """A dark sheet of panels in rows and columns, with words; ``lines`` are those of the legend, by class."""

    values: Any
    height: int
    width: int
    lines: Sequence[Sequence[tuple[int, str]]]

    @classmethod
    def of(cls, height: int, width: int, rows: int, columns: int, legend: Sequence[str]) -> _Sheet:
        import numpy as np

        across = max(2 * _MARGIN + columns * width + (columns - 1) * _GAP, _NARROWEST)
        lines = _broken(legend, across - 2 * _MARGIN)
        down = _HEAD + rows * (height + _GAP) + _FOOT * len(lines) + 4
        return cls(values=np.full((down, across, 3), 0.07), height=height, width=width, lines=lines)

    def left(self, column: int) -> int:
        return _MARGIN + column * (self.width + _GAP)

    def top(self, row: int) -> int:
        return _HEAD + row * (self.height + _GAP)

    def paste(self, row: int, column: int, panel: Any) -> None:
        top, left = self.top(row), self.left(column)
        self.values[top : top + self.height, left : left + self.width] = panel

    def write(
        self,
        place: tuple[int, int],
        text: str,
        size: int,
        ink: tuple[float, float, float] = _INK,
        room: int = 10_000,
    ) -> None:
        """Write a line with its upper left corner at (x, y), shortened to the room in pixels."""
        import numpy as np
        from PIL import Image, ImageDraw

        font, (x, y) = _font(size), place
        shown = text
        while len(text) > 1 and font.getlength(shown) > room:
            text = text[:-1]
            shown = text + "\N{HORIZONTAL ELLIPSIS}"
        drawn = self.values[y : y + size + 8, x : x + int(font.getlength(shown)) + 6]
        for colour, stroke in (((0.0, 0.0, 0.0), 2), (ink, 0)):  # a dark rim, for bright scans
            canvas = Image.new("L", (drawn.shape[1], drawn.shape[0]))
            ImageDraw.Draw(canvas).text((1, 1), shown, fill=255, font=font, stroke_width=stroke)
            share = np.asarray(canvas, dtype=np.float64)[..., None] / 255 * (0.6 if stroke else 1.0)
            drawn[:] = (1 - share) * drawn + share * np.asarray(colour)

    def draw_legend(self) -> None:
        """Write what each colour means along the lower edge."""
        y = self.values.shape[0] - _FOOT * len(self.lines) - 2
        for line in self.lines:
            x = _MARGIN
            for number, text in line:
                self.values[y + 4 : y + 16, x : x + 12] = class_colour(number)
                self.write((x + 18, y), text, 14, room=self.values.shape[1] - x - 18 - _MARGIN)
                x += _entry_width(text)
            y += _FOOT


def _broken(words: Sequence[str], room: int) -> list[list[tuple[int, str]]]:
    """Return the entries of a legend in lines that fit into the room."""
    lines: list[list[tuple[int, str]]] = [[]]
    used = 0
    for number, text in enumerate(words, start=1):
        if lines[-1] and used + _entry_width(text) - 20 > room:
            lines.append([])
            used = 0
        lines[-1].append((number, text))
        used += _entry_width(text)
    return lines


def _entry_width(text: str) -> int:
    return 38 + int(_font(14).getlength(text))


@functools.cache
def _font(size: int) -> Any:
    from pathlib import Path

    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
