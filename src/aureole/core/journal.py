"""What an evaluation tells while it runs, and what it already knows: the seam between attacks and whoever judges them.

An attack that works point by point says of each point when it is decided. A journal may show that as progress, and may
keep it, so that an evaluation that was interrupted asks nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Decided:
    """Points that an attack is done with.

    Attributes:
        index: which points: their numbers in the data set, shape (points,).
        fooled: whether the attack fooled the model there.
        x_adv: the adversarial images of the points that were fooled, in their order, shape (fooled points, *event).
    """

    index: Int64[Tensor, " points"]
    fooled: Bool[Tensor, " points"]
    x_adv: Float[Tensor, "fooled *event"]


class Journal:
    """A journal that forgets; the base of those that show progress or keep what they are told.

    Example:
        >>> Journal().recall("apgd-ce") is None
        True
    """

    def recall(self, attack: str) -> Decided | None:
        """Return what is known of an attack from before; None where nothing is."""

    def begin(self, attack: str, num_points: int) -> None:
        """Hear that an attack starts on so many points, those recalled left out."""

    def note(self, attack: str, decided: Decided) -> None:
        """Hear of points that were decided just now; each point once."""

    def progress(self, attack: str, done: float) -> None:
        """Hear how many points' worth of work is done, from 0 to the number of points; told now and then."""
