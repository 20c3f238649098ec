"""Slices or volumes of different sizes in memory, the labelled ones first, ready to be cut into batches."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from aureole.core.errors import InputError, unknown_name

#: Name of a precision -> how voxels are held.
PRECISIONS = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingScans:
    """Slices (2-D) or volumes (3-D) in memory, one behind the other in one tensor, so that a batch is one look-up.

    Attributes:
        voxels: of all items, each flattened, float16 or float32, shape (channels, total).
        labels: class of each voxel of the labelled items, uint8, shape (their total,).
        sizes: number of voxels along each axis, of each item; the labelled items first.
        num_labelled: how many items have a label, at least 1.
        names: of the items.
        patients: whom each item shows.
        class_names: a name for each class; class 0 is the background.
        name: what a person calls the set.

    Raises:
        InputError: the numbers do not fit each other.

    Example:
        >>> from aureole.data.scans import ScanData
        >>> scans = ScanData(num_labelled=2).train_and_validation().train
        >>> scans.dimensions, scans.num_labelled < len(scans), scans.labelled_patients
        (2, True, ('patient000', 'patient001'))
    """

    voxels: Tensor
    labels: Tensor
    sizes: tuple[tuple[int, ...], ...]
    num_labelled: int
    names: tuple[str, ...]
    patients: tuple[str, ...]
    class_names: tuple[str, ...]
    name: str = "scans"

    def __post_init__(self) -> None:
        if not 1 <= self.num_labelled <= len(self) or len(self.names) != len(self) or len(self.patients) != len(self):
            raise InputError(
                f"{self.name} needs a name and a patient for each of its {len(self)} items, and at least one labelled; "
                f"got {len(self.names)}, {len(self.patients)} and {self.num_labelled} labelled"
            )
        if self.voxels.shape[1:] != (self.starts[-1],) or self.labels.shape != (self.starts[self.num_labelled],):
            raise InputError(
                f"sizes of {self.name} ask for {self.starts[-1]} voxels and {self.starts[self.num_labelled]} labels; "
                f"got {tuple(self.voxels.shape)} and {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def dimensions(self) -> int:
        """2 for slices, 3 for volumes."""
        return len(self.sizes[0])

    @property
    def num_classes(self) -> int:
        """Number of classes, the background counted."""
        return len(self.class_names)

    @property
    def num_channels(self) -> int:
        """Number of channels of every item."""
        return len(self.voxels)

    @property
    def labelled_patients(self) -> tuple[str, ...]:
        """Patients whose items are labelled, in the order of the list: what a run writes down."""
        return tuple(dict.fromkeys(self.patients[: self.num_labelled]))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each item begins in ``voxels``, and behind them where the last one ends."""
        ends = [0]
        for size in self.sizes:
            ends.append(ends[-1] + math.prod(size))
        return tuple(ends)

    @cached_property
    def table(self) -> Int64[Tensor, "items columns"]:
        """Start and sizes of each item, on the device of the voxels."""
        rows = [(start, *size) for start, size in zip(self.starts[:-1], self.sizes, strict=True)]
        return torch.tensor(rows, dtype=torch.int64, device=self.voxels.device)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of voxels, labels, sizes, names and classes."""
        head = (self.sizes, self.num_labelled, self.names, self.patients, self.class_names, str(self.voxels.dtype))
        digest = hashlib.sha256(repr(head).encode())
        digest.update(self.voxels.cpu().contiguous().numpy().data)
        digest.update(self.labels.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def image(self, place: int) -> Shaped[Tensor, "channels *space"]:
        """Return the voxels of an item, as they are held."""
        flat = self.voxels[:, self.starts[place] : self.starts[place + 1]]
        return flat.view(self.num_channels, *self.sizes[place])

    def label(self, place: int) -> Shaped[Tensor, "*space"]:
        """Return the label of a labelled item, uint8.

        Raises:
            InputError: the item is not labelled.
        """
        if not 0 <= place < self.num_labelled:
            raise InputError(f"only the items 0 to {self.num_labelled - 1} of {self.name} have a label; got {place}")
        return self.labels[self.starts[place] : self.starts[place + 1]].view(self.sizes[place])

    def to(self, device: torch.device | str) -> TrainingScans:
        """Return the set with its voxels and labels on a device."""
        return replace(self, voxels=self.voxels.to(device), labels=self.labels.to(device))


def precision_dtype(precision: str) -> torch.dtype:
    """Return how voxels are held.

    Raises:
        InputError: the name is unknown.

    Example:
        >>> from aureole.data.scans.training_scans import precision_dtype
        >>> precision_dtype("float16")
        torch.float16
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    return PRECISIONS[precision]
