"""Ramps: how the weight of a loss grows with the epochs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from aureole.core.errors import InputError


@dataclass(frozen=True)
class Ramp(ABC):
    """A function epoch -> factor in [0, 1], which never falls.

    Example:
        >>> from aureole.core.ramps import Constant, Linear, Sigmoid
        >>> [ramp(20) for ramp in (Constant(), Linear(80.0), Sigmoid(20.0))]
        [1.0, 0.25, 1.0]
    """

    @abstractmethod
    def __call__(self, epoch: float | int | None) -> float:
        """Return the factor.

        Args:
            epoch: from 0; a fraction where a loop counts steps; None where nobody said, which is no matter to a
                constant alone.

        Raises:
            InputError: the factor grows with the epochs, and nobody said which one it is.
        """


@dataclass(frozen=True)
class Constant(Ramp):
    """Always 1."""

    def __call__(self, epoch: float | int | None) -> float:
        return 1.0


@dataclass(frozen=True)
class _Rising(Ramp):
    length: float

    def __post_init__(self) -> None:
        if not 0 <= self.length < math.inf:
            raise InputError(f"the length of a ramp is a number of epochs, at least 0; got {self.length}")

    def _share(self, epoch: float | int | None) -> float:
        if epoch is None:
            raise InputError(
                f"a weight that grows with the epochs ({self!r}) needs to know which one it is: pass"
                " Batch(..., epoch=epoch), from 0, or take Constant() as the ramp"
            )
        return 1.0 if self.length == 0 else min(max(epoch / self.length, 0.0), 1.0)


@dataclass(frozen=True)
class Linear(_Rising):
    """Grow as epoch / length, then stay at 1.

    Args:
        length: epochs until the factor is 1, at least 0.

    Raises:
        InputError: the length is negative.

    Example:
        >>> from aureole.core.ramps import Linear
        >>> Linear(10.0)(4)
        0.4
    """

    def __call__(self, epoch: float | int | None) -> float:
        return self._share(epoch)


@dataclass(frozen=True)
class Sigmoid(_Rising):
    """Grow as exp(-5 (1 - epoch / length)^2), then stay at 1 (Laine and Aila 2017).

    Args:
        length: epochs until the factor is 1, at least 0.

    Raises:
        InputError: the length is negative.

    Example:
        >>> from aureole.core.ramps import Sigmoid
        >>> round(Sigmoid(80.0)(0), 4), Sigmoid(80.0)(80)
        (0.0067, 1.0)
    """

    def __call__(self, epoch: float | int | None) -> float:
        return math.exp(-5 * (1 - self._share(epoch)) ** 2)
