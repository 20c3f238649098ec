"""What the sparse attacks share: they search a box around the image, and count pixels instead of distances."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aureole.attacks.fields import check_counts
from aureole.attacks.minimal import MinimalAttack
from aureole.core.balls import Ball, Bounds, Linf
from aureole.core.errors import InputError


def whole_box(bounds: Bounds | None) -> Linf:
    """Return the ball that is the whole box of the data: a sparse attack may change a pixel to any value.

    Args:
        bounds: least and greatest value of the data, as a ball has them.

    Raises:
        InputError: the data has no bounds.

    Example:
        >>> whole_box((-1.0, 1.0)).radius
        2.0
    """
    if bounds is None:
        raise InputError("a sparse attack needs bounded data, for it moves pixels to the bounds; got bounds=None")
    low, high = ((b,) if isinstance(b, int | float) else b for b in bounds)
    return Linf(float(max(h - l for l, h in zip(low, high, strict=True))), bounds)  # noqa: E741


@dataclass(frozen=True, kw_only=True)
class SparseAttack(MinimalAttack):
    """An attack that changes few pixels, each anywhere in a box; an image that it cannot fool is returned as it is.

    Attributes:
        ball: the box: ``Linf(1.0)`` is all images in the bounds (0, 1), ``Linf(0.3)`` the box x +- 0.3 inside them.
    """

    ball: Ball = Linf(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.ball, Linf):
            raise InputError(
                f"{type(self).__name__} searches a box, so its ball is Linf(1.0) for the whole data or Linf(radius);"
                f" got {self.ball!r}"
            )
        check_counts(self, max_batch=1)

    def _box(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest value that each feature may take."""
        return self.ball.clip(x - self.ball.radius), self.ball.clip(x + self.ball.radius)
