"""Sets of scans that are read when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch

from aureole.core.errors import InputError
from aureole.data.scans.scan import Scan, check_classes, scaled

_HASHED_SCANS = 8


@dataclass(frozen=True)
class Entry:
    """A scan that was not read yet.

    Attributes:
        name: what the scan is called.
        patient: whom it shows; labels are counted in patients.
        load: reads it; takes ``with_label``.
        has_label: whether there is a label to read.

    Example:
        >>> from aureole.data.scans.scans import Entry
        >>> Entry("a_1", "a", lambda with_label: Scan(name="a_1", image=torch.rand(1, 4, 4))).patient
        'a'
    """

    name: str
    patient: str
    load: Callable[..., Scan]
    has_label: bool = True


@dataclass(frozen=True, eq=False)
class Scans:
    """Scans of different sizes, in a fixed order; each is read and checked when it is asked for, and not kept.

    Attributes:
        entries: where they are.
        class_names: a name for each class; class 0 is the background.
        name: what a person calls the set.
        scaling: of each image, one of :data:`aureole.data.scans.scan.SCALINGS`.

    Raises:
        InputError: there is no scan, or fewer than two classes.

    Example:
        >>> from aureole.data.scans import ScanData
        >>> scans = ScanData(source="phantom-atrium").test()
        >>> len(scans), scans.class_names, scans[0].shape == tuple(scans[0].label.shape)
        (4, ('background', 'atrium'), True)
    """

    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    name: str = "scans"
    scaling: str = "none"

    def __post_init__(self) -> None:
        if not self.entries:
            raise InputError(f"{self.name} has no scans; at least one is needed")
        if not 2 <= len(self.class_names) <= 256:
            raise InputError(
                f"{self.name} needs 2 to 256 class names, the background's first; got {len(self.class_names)}"
            )

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, place: int) -> Scan:
        return self.read(place)

    def __iter__(self) -> Iterator[Scan]:
        return (self.read(place) for place in range(len(self)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scans; none is read for that."""
        return tuple(entry.name for entry in self.entries)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients, each once, in the order of their first scans."""
        return tuple(dict.fromkeys(entry.patient for entry in self.entries))

    @property
    def num_classes(self) -> int:
        """Number of classes, the background counted."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of a SHA-256 of names, classes, scaling, and the voxels of 8 evenly spaced scans."""
        digest = hashlib.sha256(repr((self.names, self.class_names, self.scaling)).encode())
        for place in torch.linspace(0, len(self) - 1, min(len(self), _HASHED_SCANS)).long().unique().tolist():
            scan = self.read(place)
            digest.update(repr(scan.shape).encode())
            for part in (scan.image, scan.label):
                digest.update(b"" if part is None else part.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def read(self, place: int, *, with_label: bool = True) -> Scan:
        """Return a scan, with its label where it has one.

        Raises:
            InputError: its files are missing, unreadable or unusable.
        """
        entry = self.entries[place]
        scan = entry.load(with_label=with_label and entry.has_label)
        check_classes(scan, self.num_classes)
        return scan if self.scaling == "none" else replace(scan, image=scaled(scan.image, self.scaling))

    def readable(self, failed: dict[str, str]) -> Iterator[Scan]:
        """Yield the scans that can be read, and go on past the others.

        Args:
            failed: gets, for each scan that cannot be read, its name and why.

        Example:
            >>> from aureole.data.scans import ScanData
            >>> failed = {}
            >>> len(list(ScanData().test().readable(failed))), failed
            (8, {})
        """
        for place, name in enumerate(self.names):
            try:
                scan = self.read(place)
            except InputError as error:
                failed[name] = str(error)
                continue
            yield scan

    def in_memory(self, failed: dict[str, str] | None = None) -> Scans:
        """Return the set with its scans read once and kept, for what is looked at again and again.

        Args:
            failed: gets the name of each scan that cannot be read and why, and the set does without it; None stops at
                the first.

        Raises:
            InputError: a scan, or every scan, is unusable.

        Example:
            >>> from aureole.data.scans import ScanData
            >>> validation = ScanData().train_and_validation().validation.in_memory()
            >>> validation[0] is validation[0]
            True
        """
        scans = list(self if failed is None else self.readable(failed))
        patients = {entry.name: entry.patient for entry in self.entries}
        kept = (Entry(scan.name, patients[scan.name], partial(_kept, scan), scan.label is not None) for scan in scans)
        return replace(self, entries=tuple(kept), scaling="none")

    def subset(self, places: Sequence[int]) -> Scans:
        """Return the set of the scans at these places, in this order; nothing is read."""
        return replace(self, entries=tuple(self.entries[place] for place in places))


def _kept(scan: Scan, *, with_label: bool = True) -> Scan:
    return scan if with_label or scan.label is None else replace(scan, label=None)
