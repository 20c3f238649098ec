"""What is at a source: which scans train, validate and test, before any of them is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from aureole.core.errors import InputError
from aureole.data.scans.scans import Entry


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The scans at a source, by part.

    Attributes:
        name: of the source.
        class_names: a name for each class; () where the source does not tell.
        dimensions: 2 or 3: what is usually trained on, slices or volumes.
        scaling: what its voxels still need before 2-D and 3-D training.
        volumes: to train on.
        slices: to train on, where slices are stored one by one; None where they are cut from volumes.
        validation: to choose a model on; None where the source names none.
        test: for the end; None where the source names none.
        counted_in: the list or folder that tells which scans train.

    Raises:
        InputError: a patient is in two of training, validation and test.
    """

    name: str
    class_names: tuple[str, ...] = ()
    dimensions: int = 3
    scaling: tuple[str, str] = ("none", "none")
    volumes: tuple[Entry, ...] | None = None
    slices: tuple[Entry, ...] | None = None
    validation: tuple[Entry, ...] | None = None
    test: tuple[Entry, ...] | None = None
    counted_in: str = "the training list"

    def __post_init__(self) -> None:
        training = (*(self.volumes or ()), *(self.slices or ()))
        parts = {"training": training, "validation": self.validation or (), "test": self.test or ()}
        for (one, some), (other, others) in combinations(parts.items(), 2):
            common = sorted({entry.patient for entry in some} & {entry.patient for entry in others})
            if common:
                raise InputError(
                    f"{common[0]} of {self.name} is in the {one} and in the {other} part, which must have different "
                    "patients: take it out of one of the lists"
                )


def read_list(path: Path) -> tuple[str, ...]:
    """Return the names in a list file: one a line, in order.

    Raises:
        InputError: there is no such file, it is unreadable or empty, or a name is in it twice.

    Example:
        >>> from pathlib import Path
        >>> from aureole.data.scans.layout import read_list
        >>> read_list(Path("no/train.list"))
        Traceback (most recent call last):
        aureole.core.errors.InputError: there is no list of scans at no/train.list
    """
    if not path.is_file():
        raise InputError(f"there is no list of scans at {path}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of names, one a line: {error}") from error
    names = tuple(line.strip().removesuffix(".h5") for line in lines if line.strip())
    if not names:
        raise InputError(f"{path} is empty; expected the name of a scan on each line")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path} names {name} {count} times: leave all but one out")
    return names
