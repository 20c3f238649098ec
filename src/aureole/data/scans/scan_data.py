"""Which scans teach with labels, which without, which choose the model, and which are looked at once, at the end."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

from aureole.core.errors import InputError, UntrustedResult, unknown_name
from aureole.data.scans.layout import Layout
from aureole.data.scans.pack import pack
from aureole.data.scans.phantoms import ATRIUM, HEART, Phantoms
from aureole.data.scans.scan import SCALINGS
from aureole.data.scans.scans import Entry, Scans
from aureole.data.scans.sources import find_layout
from aureole.data.scans.training_scans import TrainingScans, precision_dtype


@dataclass(frozen=True)
class ScanSplits:
    """Scans to train on, and others to choose a model on.

    Attributes:
        train: slices or volumes in memory, the labelled ones first.
        validation: volumes to validate on; None where the source has none and none were carved from it.
    """

    train: TrainingScans
    validation: Scans | None


@dataclass(frozen=True, kw_only=True)
class ScanData:
    """A source of scans of which only the first few patients keep their labels.

    The source's own lists say who is labelled: its first patients, as in the published comparisons. On ACDC 3 patients
    are 68 slices and 7 are 136; nothing but the list is asked for that.

    Attributes:
        source: what :func:`aureole.data.scans.find_layout` takes: ``"phantom-heart"`` or ``"phantom-atrium"``, which
            are drawn, a folder of HDF5 or NIfTI files, or a ``dataset.json``.
        num_labelled: patients with a label, at least 1; on the left atrium, as in NIfTI folders, each scan is one.
        num_train: how many of the first patients to use at all, labelled or not; None for all.
        num_validation: how many patients to validate on: the first of the validation list; or, where there is no such
            list, the last labelled ones of the training list, which then do not train. None for the whole list.
        dimensions: 2 to train on slices, 3 on volumes; None for what the source is usually trained on.
        class_names: a name for each class, the background's first; () for what the source tells.
        scaling: ``"none"``, ``"unit"`` to [0, 1] or ``"z-score"`` of each scan; None leaves HDF5 files as they are and
            brings NIfTI files to [0, 1] for 2-D and to the z-score for 3-D training.
        precision: how scans to train on are held, ``"float32"`` or ``"float16"``.
        validate_on_test: choose models on the test list, as the published code for the left atrium does. The figures
            of the best are then too good: for a comparison with published tables only.
        phantoms: how many patients are drawn.

    Raises:
        InputError: a number is below 1, or a name is unknown.

    Example:
        >>> from aureole.data.scans import ScanData
        >>> data = ScanData(source="phantom-heart", num_labelled=2)
        >>> splits = data.train_and_validation()
        >>> len(splits.train) > splits.train.num_labelled, splits.validation.patients, len(data.test())
        (True, ('patient012', 'patient013'), 8)

    Source: thesis section 6.3.1; the lists of SSL4MIS and UA-MT.
    """

    source: str = HEART
    num_labelled: int = 3
    num_train: int | None = None
    num_validation: int | None = None
    dimensions: int | None = None
    class_names: tuple[str, ...] = ()
    scaling: str | None = None
    precision: str = "float32"
    validate_on_test: bool = False
    phantoms: Phantoms = field(default_factory=Phantoms)

    def __post_init__(self) -> None:
        for name in ("num_labelled", "num_train", "num_validation"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{name} must be at least 1; got {number}")
        if self.dimensions not in (None, 2, 3):
            raise InputError(f"dimensions must be 2 for slices or 3 for volumes; got {self.dimensions}")
        if self.scaling is not None and self.scaling not in SCALINGS:
            raise unknown_name("scaling", self.scaling, SCALINGS)
        precision_dtype(self.precision)

    @property
    def is_drawn(self) -> bool:
        """Whether the scans are drawn, not read."""
        return self.source in (HEART, ATRIUM)

    def layout(self) -> Layout:
        """Return what is at the source, by its own lists; no scan is read."""
        return find_layout(self.source, self.phantoms)

    def train_and_validation(self, failed: dict[str, str] | None = None) -> ScanSplits:
        """Read the scans to train on; those to validate on are read when they are asked for. No test file is opened.

        Args:
            failed: gets the name of each unlabelled scan to train on that cannot be used and why, and training does
                without it; None stops at the first. A labelled one always stops.

        Raises:
            InputError: the source is unusable, it has too few patients, or a scan is unusable.

        Warns:
            UntrustedResult: all labels of a labelled patient are background, or models are chosen on the test list.
        """
        layout = self.layout()
        dimensions = self.dimensions or layout.dimensions
        training, validation = self._split(layout, dimensions)
        patients = tuple(dict.fromkeys(entry.patient for entry in training))
        if self.num_labelled > len(patients):
            raise InputError(
                f"num_labelled must be at most {len(patients)}, the patients to train on in {layout.counted_in}; "
                f"got {self.num_labelled}"
            )
        scans = self._scans(layout, training, "training scans", dimensions)
        if dimensions == 2 and layout.slices and scans.scaling != "none":
            raise InputError(
                f"slices of {layout.name} are stored one by one and cannot be scaled by their volume: scale them "
                "beforehand, and set scaling to 'none'"
            )
        chosen = frozenset(patients[: self.num_labelled])
        train = pack(scans, chosen, dimensions, precision=self.precision, failed=failed)
        return ScanSplits(train, self._scans(layout, validation, "validation scans") if validation else None)

    def test(self, num_scans: int | None = None) -> Scans:
        """Return the scans for the end: the first ``num_scans`` of the test list, or all.

        Raises:
            InputError: the source has no test scans, or fewer.
        """
        layout = self.layout()
        if not layout.test:
            raise InputError(f"{layout.name} names no test scans: add a test part")
        scans = self._scans(layout, layout.test, "test scans")
        if num_scans is None:
            return scans
        if not 1 <= num_scans <= len(scans):
            raise InputError(f"num_scans must be 1 to {len(scans)}, the test scans of {layout.name}; got {num_scans}")
        return scans.subset(range(num_scans))

    def _split(self, layout: Layout, dimensions: int) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        """Return who trains and who validates."""
        training = layout.slices if dimensions == 2 and layout.slices else layout.volumes
        if not training:
            raise InputError(f"{layout.name} names no volumes to train on: set dimensions to 2, or add train.list")
        validation = self._listed_validation(layout)
        if validation is None and self.num_validation is not None:
            validation = self._carved(layout)
            held = set(_patients(validation))
            training = tuple(entry for entry in training if entry.patient not in held)
        kept = _patients(training)[: self.num_train]
        if self.num_train is not None and len(kept) < self.num_train:
            raise InputError(
                f"num_train must be at most {len(kept)}, the patients of {layout.counted_in} that validation leaves; "
                f"got {self.num_train}"
            )
        return tuple(entry for entry in training if entry.patient in set(kept)), validation or ()

    def _carved(self, layout: Layout) -> tuple[Entry, ...]:
        """Return the volumes of the last labelled patients of the training list."""
        volumes, count = layout.volumes or (), self.num_validation or 0
        patients = _patients([entry for entry in volumes if entry.has_label])
        if count >= len(patients):
            raise InputError(
                f"num_validation must be below {len(patients)}, the patients of {layout.name} with labelled volumes to "
                f"train or validate on, as it has no list of validation scans; got {count}"
            )
        last = set(patients[-count:])
        return tuple(entry for entry in volumes if entry.patient in last)

    def _listed_validation(self, layout: Layout) -> tuple[Entry, ...] | None:
        if self.validate_on_test:
            warnings.warn(
                f"models are chosen on the test scans of {layout.name}: the test figures of the best are too good",
                UntrustedResult,
                stacklevel=4,
            )
        listed = layout.test if self.validate_on_test else layout.validation
        if listed is None or self.num_validation is None:
            return listed
        patients = _patients(listed)
        if self.num_validation > len(patients):
            raise InputError(
                f"num_validation must be at most {len(patients)}, the patients to validate on of {layout.name}; "
                f"got {self.num_validation}"
            )
        return tuple(entry for entry in listed if entry.patient in patients[: self.num_validation])

    def _scans(self, layout: Layout, entries: tuple[Entry, ...], what: str, dimensions: int | None = None) -> Scans:
        names = self.class_names or layout.class_names
        if not names:
            raise InputError(
                f"{layout.name} does not name its classes: give class_names, such as ('background', 'liver')"
            )
        dimensions = dimensions or self.dimensions or layout.dimensions
        scaling = self.scaling or layout.scaling[dimensions - 2]
        return Scans(entries, names, f"{what} of {layout.name}", scaling)


def _patients(entries: Iterable[Entry]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.patient for entry in entries))
