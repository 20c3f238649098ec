"""Sources that need no files: drawn hearts and drawn atria, for a first try and for tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from aureole.core.errors import InputError
from aureole.core.random import mix_seed
from aureole.data.scans import phantom_atrium, phantom_heart
from aureole.data.scans.layout import Layout
from aureole.data.scans.phantom_atrium import draw_atrium
from aureole.data.scans.phantom_heart import FRAMES, draw_heart
from aureole.data.scans.scans import Entry

#: Names of the drawn sources.
HEART, ATRIUM = "phantom-heart", "phantom-atrium"


@dataclass(frozen=True, kw_only=True)
class Phantoms:
    """How many patients are drawn, and how large.

    Attributes:
        num_train: patients to train on, labelled or not; at least 1.
        num_validation: patients to choose a model on, at least 1.
        num_test: patients for the end, at least 1.
        size: mean length of the longest axes, in voxels, at least 16.
        seed: of all patients.

    Raises:
        InputError: a number is too small.

    Example:
        >>> from aureole.data.scans import Phantoms
        >>> Phantoms(num_train=4).size
        64
    """

    num_train: int = 12
    num_validation: int = 2
    num_test: int = 4
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = (self.num_train, self.num_validation, self.num_test)
        if min(numbers) < 1 or self.size < 16:
            raise InputError(
                f"each part needs a drawn patient and each patient a size of 16 voxels; got {numbers} patients of size "
                f"{self.size}"
            )

    def layout(self, source: str) -> Layout:
        """Return the parts of ``"phantom-heart"`` or ``"phantom-atrium"``; nothing is drawn yet."""
        ends = (self.num_train, self.num_train + self.num_validation)
        whole = range(ends[1] + self.num_test)
        make = self._hearts if source == HEART else self._atria
        train, validation, test = (make(part) for part in (whole[: ends[0]], whole[slice(*ends)], whole[ends[1] :]))
        return Layout(
            name=source,
            class_names=phantom_heart.CLASS_NAMES if source == HEART else phantom_atrium.CLASS_NAMES,
            dimensions=2 if source == HEART else 3,
            volumes=train,
            validation=validation,
            test=test,
            counted_in=source,
        )

    def _hearts(self, patients: range) -> tuple[Entry, ...]:
        return tuple(
            Entry(
                f"patient{patient:03d}_{name}",
                f"patient{patient:03d}",
                partial(draw_heart, mix_seed(self.seed, 0), patient, frame, self.size),
            )
            for patient in patients
            for frame, name in enumerate(FRAMES)
        )

    def _atria(self, patients: range) -> tuple[Entry, ...]:
        load = partial(draw_atrium, mix_seed(self.seed, 1))
        return tuple(
            Entry(f"atrium{patient:03d}", f"atrium{patient:03d}", partial(load, patient, self.size))
            for patient in patients
        )
