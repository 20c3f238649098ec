"""The nearest point of a hyperplane inside the bounds of the data, in Linf, L2 and L1: exact, many rows at once.

For a point t, a plane {z : <w, z> = b} and bounds [low, high] the shortest d with

    <w, t + d> = b,    low <= t + d <= high

moves each coordinate towards the plane, by a size of at most its room, the distance to its bound. With c = |<w, t> - b|

    Linf:  sizes min(level, room)          L2:  sizes min(level * |w|, room)          <|w|, sizes> = c
    L1:    the largest |w| first, each as far as its room, until <|w|, sizes> = c

Where the plane is out of reach, every coordinate with w != 0 goes to its bound: the least possible violation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from aureole.core.balls import L1, L2, Ball, Linf
from aureole.core.errors import InputError

#: Sizes of the moves, from |w| (rows, d), the rooms (many, rows, d) and c (many, rows, 1).
_Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


class PlaneProjection:
    """The shortest move of points to hyperplanes, inside the bounds of the data, in the norm of a ball.

    Args:
        ball: its type chooses the norm, its bounds are the box; the radius plays no part.

    Raises:
        InputError: there is no such rule for the ball.

    Example:
        >>> onto_plane = PlaneProjection(L2(1.0))
        >>> onto_plane(torch.tensor([[[0.2, 0.5]]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[2.6]]))
        tensor([[[-0.2000, -0.5000]]])
        >>> PlaneProjection(Linf(1.0))(torch.tensor([[[0.2, 0.5]]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[1.4]]))
        tensor([[[-0.2000, -0.2000]]])

    Source: Croce and Hein 2020 (FAB), section 2.2 and their appendix; solved by our own algorithms.
    """

    def __init__(self, ball: Ball) -> None:
        rule = next((rule for kind, rule in _RULES.items() if isinstance(ball, kind)), None)
        if rule is None:
            names = ", ".join(kind.__name__ for kind in _RULES)
            raise InputError(f"the projection on a hyperplane is known for {names}; got {ball!r}")
        self.ball, self._rule = ball, rule

    def __call__(
        self,
        points: Float[Tensor, "many rows *event"],
        normal: Float[Tensor, "rows *event"],
        gap: Float[Tensor, "many rows"],
    ) -> Float[Tensor, "many rows *event"]:
        """Return the move of each point.

        Args:
            points: inside the bounds, several a plane.
            normal: w, of each plane.
            gap: <w, t> - b, of each point.

        Returns:
            The moves d; zero where the gap or the normal is zero.
        """
        towards = -normal.sign() * gap.sign().view(*gap.shape, *(1,) * (normal.ndim - 1))
        limits = self.ball.limits(points)
        room = torch.full_like(points, torch.finfo(points.dtype).max)
        if limits is not None:
            room = torch.maximum(*(towards * (bound - points) for bound in limits)).clamp_min_(0)
        slope = normal.abs().flatten(1)  # scaled, so that its squares do not underflow
        scale = slope.amax(-1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        sizes = self._rule(slope / scale, room.flatten(2), gap.abs()[..., None] / scale)
        return towards.mul_(sizes.view_as(points))


def _common_size(slope: Tensor, room: Tensor, gap: Tensor) -> Tensor:
    """Return min(level, room)."""
    return torch.minimum(_level(slope.sign(), slope, room, gap), room)


def _size_by_slope(slope: Tensor, room: Tensor, gap: Tensor) -> Tensor:
    """Return min(level * slope, room)."""
    return torch.minimum(_level(slope, slope, room, gap) * slope, room)


def _level(rate: Tensor, slope: Tensor, room: Tensor, gap: Tensor) -> Tensor:
    """Return the level with sum slope * min(level * rate, room) = gap; the greatest number where there is none.

    The sum is concave and piecewise linear in the level, so Newton's steps from 0 never overshoot and end exactly.
    """
    gain, full_gain, level, most = slope * rate, slope * room, torch.zeros_like(gap), torch.finfo(gap.dtype).max
    for count in range(1, 101):
        free = torch.addcmul(room, level, rate, value=-1).sign_().clamp_min_(0)  # 0 or 1: faster than booleans
        denominator = (free * gain).sum(-1, keepdim=True)
        rest = gap - free.sub_(1).mul_(full_gain).sum(-1, keepdim=True).neg_()
        step = (rest / denominator).nan_to_num_(0.0, most, 0.0)
        before, level = level, torch.maximum(level, step)
        if (gap.is_cpu or count % 10 == 0) and bool((level == before).all()):  # a look stalls any other device
            break
    return level


def _steepest_first(slope: Tensor, room: Tensor, gap: Tensor) -> Tensor:
    """Return the rooms of the largest slopes, and of the one that reaches the gap a part."""
    slope, order = slope.sort(-1, descending=True)
    order = order.expand_as(room)
    room = room.gather(-1, order)
    rest = gap - torch.nn.functional.pad((slope * room).cumsum(-1)[..., :-1], (1, 0))
    sizes = torch.minimum(rest.clamp_min_(0) / slope.clamp_min(torch.finfo(slope.dtype).tiny), room)
    return torch.empty_like(sizes).scatter_(-1, order, sizes)


_RULES: dict[type[Ball], _Rule] = {Linf: _common_size, L2: _size_by_slope, L1: _steepest_first}
