"""Labelled images with a mask beside some of them: what a map that explains is measured against."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from aureole.core.errors import InputError, unknown_name
from aureole.data.fractions import FractionData
from aureole.data.fundus import Fundus
from aureole.data.images import Images, check_indices
from aureole.data.mask_files import MaskFiles
from aureole.data.pictures import box_mask, read_mask, read_picture
from aureole.data.streamed import stack_equal
from aureole.data.tables import Table, open_table, quiet

_NO_MASK = torch.zeros(0, 0, 0, dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class MaskedImages(Images):
    """Labelled images in memory, and for some of them the pixels that matter.

    A method trains on images and labels as on any other set; a batch's ``index`` finds the masks.

    Attributes:
        masks: which pixels are marked, bool, shape (n, height, width); nothing is marked where there is no mask.
        positive: the class that precision, recall and F1 speak of; None where no class is.

    Raises:
        InputError: a shape, a type or a label is not as above.

    Example:
        >>> from aureole.data.masks import MaskedImages
        >>> pixels, masks = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 4, 4, dtype=torch.bool)
        >>> masks[1, 2, 2] = True
        >>> images = MaskedImages(pixels, torch.tensor([0, 1]), ("clean", "ill"), "two", masks=masks, positive=1)
        >>> images.has_mask.tolist(), len(images.with_masks())
        ([False, True], 1)
    """

    masks: Tensor = _NO_MASK
    positive: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = (len(self), *self.image_shape[1:])
        if self.masks.dtype != torch.bool or tuple(self.masks.shape) != expected:
            raise InputError(
                f"masks of {self.name} must be bool of shape {expected}, as its images; "
                f"got {self.masks.dtype} {tuple(self.masks.shape)}"
            )
        if self.positive is not None and not 0 <= self.positive < self.num_classes:
            raise InputError(
                f"the positive class of {self.name} must be 0 to {self.num_classes - 1}; got {self.positive}"
            )

    @cached_property
    def has_mask(self) -> Tensor:
        """Which images have a mask with at least one marked pixel, bool, shape (n,)."""
        return self.masks.flatten(1).any(1)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of what :class:`Images` counts, the masks and the positive."""
        digest = hashlib.sha256(repr((super().fingerprint, self.positive)).encode())
        digest.update(self.masks.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def subset(self, indices: Int64[Tensor, " m"]) -> MaskedImages:
        """Return the set of the images at these places, in this order."""
        check_indices(indices, len(self), self.name)
        return replace(self, images=self.images[indices], labels=self.labels[indices], masks=self.masks[indices])

    def with_masks(self) -> MaskedImages:
        """Return the images that have a mask.

        Raises:
            InputError: there is none.
        """
        places = self.has_mask.nonzero().flatten()
        if len(places) == 0:
            raise InputError(f"no image of {self.name} has a mask; name a mask folder, a mask column or a box column")
        return self.subset(places)


@dataclass(frozen=True, kw_only=True)
class MaskedData(FractionData):
    """A folder of class folders, or a 🤗 data set, with masks or boxes beside some of its images.

    Attributes:
        source: a folder of class folders, of parquet files, or a name on the hub.
        classes: names of the classes to use, in this order, such as ``("goldfish", "jellyfish")``; () for all.
        positive: name of the class that precision, recall and F1 speak of; None for the second of two classes.
        mask_folder: folder of masks, each named as its image, in the same class folder where names repeat.
        mask_column: column of masks, as images.
        box_column: column of bounding boxes x0, y0, x1, y1, the last ones inside, or of lists of such.
        box_frame: height and width of the frame that the boxes are given in; None for that of the image.
        dark_masks: whether 0 marks, on a bright background; otherwise all but 0 marks.
        prepare: what brings photographs of the retina to one size; None where all images have one.

    Raises:
        InputError: more than one place of masks is named.

    Example:
        >>> from aureole.data.masks import MaskedData
        >>> fish = MaskedData(classes=("goldfish", "jellyfish"), box_column="box", box_frame=(64, 64))
        >>> fish.positive is None
        True

    Source:
        Thesis section 4.4.2 (fundus photographs with lesions), appendix (goldfish against jellyfish).
    """

    classes: tuple[str, ...] = ()
    positive: str | None = None
    mask_folder: str | None = None
    mask_column: str | None = None
    box_column: str | None = None
    box_frame: tuple[int, int] | None = None
    dark_masks: bool = False
    prepare: Fundus | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [name for name in ("mask_folder", "mask_column", "box_column") if getattr(self, name)]
        if len(named) > 1:
            raise InputError(f"masks must come from one place; got {' and '.join(named)}: leave all but one out")

    def _read(self, part: str) -> MaskedImages:
        if not self.source:
            raise InputError(
                "images in class folders, or a data set, must be named: --data.source, or --data of a thesis's recipe;"
                " got none"
            )
        table = choose_classes(open_table(self.source, part), self.classes)
        positive = self._positive(table, part)
        with quiet():
            masks = self._masks(table)
            images, marked = _decode(table, masks, self.prepare)
        whole = MaskedImages(images, table.labels, table.class_names, table.name, masks=marked, positive=positive)
        if part == "test" and (self.mask_folder or self.mask_column or self.box_column):
            whole.with_masks()
        return whole

    def _positive(self, table: Table, part: str) -> int | None:
        if self.positive is not None and self.positive not in table.class_names:
            raise unknown_name("positive class", self.positive, table.class_names)
        seen = table.labels.bincount(minlength=len(table.class_names))
        present = [name for name, count in zip(table.class_names, seen.tolist(), strict=True) if count]
        if self.positive is not None and self.positive not in present:
            raise InputError(f"the {part} part of {table.name} has no image of the positive class {self.positive!r}")
        if len(present) < 2:
            raise InputError(
                f"the {part} part of {table.name} must have images of at least two classes; got {present[0]!r} alone"
            )
        if self.positive is None:
            return 1 if len(table.class_names) == 2 else None
        return table.class_names.index(self.positive)

    def _masks(self, table: Table) -> Callable[[int, dict[str, Any], tuple[int, int]], Tensor | None]:
        """Return what gives the mask of a row, from its place, its values and the size of its image."""
        column = self.mask_column or self.box_column or ""
        if column and column not in table.dataset.features:
            raise unknown_name("column", column, table.dataset.features)
        if self.mask_column:
            dark = self.dark_masks

            def from_column(row: int, values: dict[str, Any], size: tuple[int, int]) -> Tensor | None:
                value = values[column]
                return None if value is None else read_mask(value, size, f"row {row} of {table.name}", dark=dark)

            return from_column
        if self.box_column:
            return lambda row, values, size: box_mask(
                values[column], size, self.box_frame, f"row {row} of {table.name}"
            )
        if self.mask_folder:
            files = MaskFiles(Path(self.mask_folder).expanduser(), Path(self.source).expanduser(), self.dark_masks)
            return lambda row, values, size: files.mask(
                values[table.column]["path"], size, f"row {row} of {table.name}"
            )
        return lambda row, values, size: None


def choose_classes(table: Table, names: tuple[str, ...]) -> Table:
    """Return the rows of these classes, numbered in this order; all rows for ().

    Raises:
        InputError: a name is unknown or given twice, or no row is of these classes.
    """
    if not names:
        return table
    for name in names:
        if name not in table.class_names:
            raise unknown_name("class", name, table.class_names)
    if len(set(names)) < len(names):
        raise InputError(f"every class must be named once; got {', '.join(names)}")
    number = torch.full((len(table.class_names),), -1)
    number[[table.class_names.index(name) for name in names]] = torch.arange(len(names))
    labels = number[table.labels]
    rows = (labels >= 0).nonzero().flatten()
    if len(rows) == 0:
        raise InputError(f"{table.name} has no image of the classes {', '.join(names)}")
    return replace(table, dataset=table.dataset.select(rows.tolist()), labels=labels[rows], class_names=names)


def _decode(
    table: Table, masks: Callable[[int, dict[str, Any], tuple[int, int]], Tensor | None], prepare: Fundus | None
) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 (n, channels, height, width), and their masks, bool (n, height, width)."""
    pictures, marked, mode = [], [], None
    for row in range(len(table.dataset)):
        values = table.dataset[row]
        where = f"row {row} of {table.name}"
        picture = read_picture(values[table.column], mode, _named(values[table.column], where))
        mode = mode or ("L" if len(picture) == 1 else "RGB")
        mask = masks(row, values, (picture.shape[1], picture.shape[2]))
        if prepare is not None:
            picture, mask = prepare.with_mask(picture, mask, where)
        pictures.append(picture.numpy())
        marked.append(torch.zeros(picture.shape[1:], dtype=torch.bool) if mask is None else mask)
    images = stack_equal(pictures, pictures[0].shape, range(len(pictures)), table.name)
    return torch.from_numpy(images), torch.stack(marked)


def _named(value: Any, where: str) -> str:
    path = value.get("path") if isinstance(value, dict) else None
    return f"{where} ({Path(path).name})" if path else where
