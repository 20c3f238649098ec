"""One step of the Brendel and Bethge attack: along the linearised decision boundary, towards the clean image.

    minimise |v - d|_p   over d,   subject to   b.d = c,   low <= d <= high,   |d|_2 <= r

v is the step that would bring the clean image back, b the normal of the boundary and c what the margin lacks. The
solution has the form (box constraints by clipping, the others by a multiplier each)

    d = clip(base(z) + mu b, low(z), high(z))

where z trades closeness to the clean image against the length of the step, and mu puts d on the hyperplane:

    L2:    base = -z v / |v|,  with z from -|v| to 0
    Linf:  base = 0,           and the box intersected with |d - v| <= max |v| + z

In both, |d|_2 falls as z rises. At one end lies the best step without the trust region, at the other the shortest step
to the hyperplane: whether the first fits or the second does not reach is known at once, and the rest is a search for
the z with |d|_2 = r. While the same coordinates are clipped, d is linear in (z, mu) and its squared length quadratic,
so each iteration solves that case exactly, inside a bracket. All rows of a batch go at once, those that are settled
drop out, and no row's result depends on the others. Masks are numbers and selections products, and there is no
``where`` over pixels: on a CPU that is several times faster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "rows d"]
Scalars = Float[Tensor, "rows 1"]

_HASTY_ITERATIONS, _MAX_ITERATIONS = 8, 60  # most rows settle in the first few
_ACCURACY = 1e-4  # of the trust radius
_USUAL_PULL = 50.0  # |mu| / r on images, roughly: pixels with a large gradient are clipped


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a, b)[:, None]


def _travel(weight: Tensor, rate: Tensor, room: Tensor, target: Tensor, radius: Tensor) -> Tensor:
    """Return the largest t with weight.e <= target and |e| <= radius, for e = min(t rate, room); none negative.

    weight.e is concave and piecewise linear in t, |e|^2 in t^2: Newton's steps from 0 never overshoot, and end exactly.
    Where every coordinate has used its room, t stays.
    """
    t, gains, squares = torch.zeros_like(target), weight * rate, rate.square()
    for _ in range(_MAX_ITERATIONS):
        moved = t * rate
        e = torch.minimum(moved, room)
        free = moved.lt_(room)
        slope = _dot(free, gains)
        plane = t + (target - _dot(weight, e)) / slope
        edge = (t.square() + (radius.square() - _dot(e, e)).clamp_min(0) / _dot(free, squares)).sqrt()
        before, t = t, torch.where(slope > 0, torch.maximum(t, torch.minimum(plane, edge)), t)
        if not bool((t > before * (1 + 1e-6)).any()):
            break
    return t


def _inside(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the value where it lies between two bounds, else their middle, if there is one."""
    middle = (low + high) / 2
    return torch.where(((value > low) & (value < high)) | ~middle.isfinite(), value, middle)


class _End(NamedTuple):
    """A step at one end of the range of z."""

    z: Tensor
    mu: Tensor
    delta: Tensor


class _Probe(NamedTuple):
    """What a pair (z, mu) gives; one number a row."""

    miss: Tensor  # c - b.d
    size: Tensor  # |d|^2
    grip: Tensor  # change of b.d with mu
    tilt: Tensor  # change of b.d with z
    gain: Tensor  # half the change of |d|^2 with z
    spread: Tensor  # |change of d with z|^2


@dataclass(frozen=True)
class BoundaryStep(ABC):
    """The problem of one step, for each row of a batch.

    Where the hyperplane cannot be reached inside box and trust region, the step goes as near to it as they allow, and
    as short.

    Args:
        goal: v, the clean image less the current one, shape (rows, d); between ``low`` and ``high``.
        normal: b, the gradient of the margin, of any length, shape (rows, d).
        offset: c, by how much the margin is to change, shape (rows, 1).
        low: least change of each pixel, at most 0, shape (rows, d).
        high: greatest change of each pixel, at least 0, shape (rows, d).
        radius: r, the Euclidean length of the longest step, shape (rows, 1).

    Example:
        >>> goal, normal, one = torch.tensor([[-3.0, -1.0]]), torch.tensor([[0.0, 2.0]]), torch.ones(1, 1)
        >>> box = torch.tensor([[9.0, 9.0]])
        >>> L2BoundaryStep(goal, normal, 0.2 * one, -box, box, one).solve().round(decimals=3)
        tensor([[-0.9950,  0.1000]])
        >>> LinfBoundaryStep(goal, normal, 8 * one, -box, box, one).solve()
        tensor([[0., 1.]])

    Source:
        Brendel et al. 2019, Eq. 1 and section 3; the way to solve it is ours.
    """

    goal: Rows
    normal: Rows
    offset: Scalars
    low: Rows
    high: Rows
    radius: Scalars

    _coupling: ClassVar[float]  # 1 if z moves the free coordinates, 0 if it moves the clipped ones

    @staticmethod
    @abstractmethod
    def shorten(delta: Rows, share: Scalars) -> Rows:
        """Return perturbations whose norm (of this problem) is a share of the given ones'.

        Args:
            delta: perturbations, shape (rows, d).
            share: from 0 to 1, shape (rows, 1).

        Returns:
            Perturbations, shape (rows, d); no coordinate grows or changes its sign.
        """

    @cached_property
    def _far(self) -> Tensor:
        """The Euclidean distance of the clean image."""
        return torch.linalg.vector_norm(self.goal, dim=1, keepdim=True)

    def solve(self) -> Rows:
        """Return the best step of each row, shape (rows, d)."""
        return self._normalized()._solve()

    def _normalized(self) -> BoundaryStep:
        """Return the same problem with a normal of length 1, or of zeros."""
        scaled = self.normal / self.normal.abs().amax(1, keepdim=True).clamp_min(torch.finfo(self.normal.dtype).tiny)
        unit = scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(0.5)
        length = _dot(unit, self.normal)
        return replace(self, normal=unit, offset=torch.where(length > 0, self.offset / length, 0))

    def _solve(self) -> Tensor:
        shortest = self._shortest()
        delta, greedy = shortest.delta, self._greedy()
        reaches = (self.offset - _dot(self.normal, delta)).abs() <= 1e-5 * self.offset.abs()
        fits = torch.linalg.vector_norm(greedy.delta, dim=1, keepdim=True) <= self.radius
        best = (reaches & fits).flatten().nonzero().flatten()
        delta = delta.index_copy(0, best, greedy.delta.index_select(0, best))
        between = (reaches & ~fits).flatten().nonzero().flatten()
        if len(between):
            ends = (_End(*(part.index_select(0, between) for part in end)) for end in (greedy, shortest))
            delta.index_copy_(0, between, self._select(between)._search(*ends))
        return delta

    def _select(self, rows: Tensor) -> BoundaryStep:
        return type(self)(*(getattr(self, field.name).index_select(0, rows) for field in fields(self)))

    def _shortest(self) -> _End:
        """Return the shortest step to the hyperplane; if it cannot be reached, the one that comes nearest."""
        sign, weight = self.offset.sign(), self.normal.abs()
        room = torch.maximum(sign * self.normal.sign() * self.high, sign * self.normal.sign() * self.low)
        mu = sign * _travel(weight, weight, room, self.offset.abs(), self.radius)
        delta = (mu * self.normal).clamp(self.low, self.high)
        return _End(self._last(delta), mu, delta)

    def _climb(self, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far to go from the clean image to the hyperplane, moving each pixel at its rate, and which way."""
        lack = self.offset - _dot(self.normal, self.goal)
        sign, way = lack.sign(), lack.sign() * self.normal.sign()
        room = torch.maximum(way * (self.high - self.goal), way * (self.low - self.goal)).clamp_min(0)
        far = torch.full_like(lack, torch.inf)
        return _travel(self.normal.abs(), rate, room, lack.abs(), far), sign

    @abstractmethod
    def _greedy(self) -> _End:
        """Return the best step if there were no trust region."""

    @abstractmethod
    def _last(self, delta: Tensor) -> Tensor:
        """Return the z of the shortest step."""

    @abstractmethod
    def _guess(self, greedy: _End, shortest: _End) -> tuple[Tensor, Tensor]:
        """Return the (z, mu) from which to search."""

    @abstractmethod
    def _clip(self, z: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """Return base + mu b, and the same clipped: the step."""

    @abstractmethod
    def _drift(self, delta: Tensor, free: Tensor, z: Tensor) -> Tensor:
        """Return the change of the step with z while mu stays."""

    @abstractmethod
    def _least(self, z: Tensor, mu: Tensor, excess: Tensor, slack: Tensor, probe: _Probe) -> Tensor:
        """Return a lower bound on the z sought, if there is one; ``excess`` is that of |d|^2 over r^2."""

    def _probe(self, z: Tensor, mu: Tensor) -> _Probe:
        raw, delta = self._clip(z, mu)
        free = raw.eq_(delta)  # 1 where no bound is active
        drift = self._drift(delta, free, z)
        grip = _dot(free.mul_(self.normal), self.normal).clamp_min(1e-20)
        miss, tilt, gain = self.offset - _dot(self.normal, delta), _dot(self.normal, drift), _dot(delta, drift)
        return _Probe(miss, _dot(delta, delta), grip, tilt, gain, _dot(drift, drift))

    def _search(self, greedy: _End, shortest: _End) -> Tensor:
        """Return the step of length r between the two ends: one too long, and one not."""
        endless = torch.full_like(greedy.z, torch.inf)
        ends = (greedy.z, shortest.z, shortest.mu)
        state = torch.stack([*self._guess(greedy, shortest), -endless, endless, *ends])
        found, task, rows = state.clone(), self, torch.arange(len(endless), device=state.device)
        done = torch.zeros_like(rows, dtype=torch.bool)
        for count in range(_MAX_ITERATIONS):
            state, settled = task._improved(state, patient=count >= _HASTY_ITERATIONS)
            fresh = settled & ~done
            found[:, rows[fresh]] = state[:, fresh]
            done = done | settled
            left = (~done).nonzero().flatten()
            if not len(left):
                break
            if len(left) < 0.75 * len(rows):
                rows, state, done, task = rows[left], state[:, left], done[left], task._select(left)
        found[:, rows[~done]] = state[:, ~done]
        return self._lengthened(self._clip(found[-2], found[-1])[1], greedy.delta)

    def _improved(self, state: Tensor, *, patient: bool) -> tuple[Tensor, Tensor]:
        """Return z, mu, the brackets of mu at this z and of z, mu at the latter's safe end; and which are settled.

        (z, mu) moves to where hyperplane and trust region would both be met if the same coordinates stayed clipped,
        mu by no more than a limit, or z to the middle of its bracket. With patience, which cannot fail but is slower,
        z moves only from where mu meets the hyperplane.
        """
        z, mu, low, high, long, short, good = state
        probe = self._probe(z, mu)
        slack = _ACCURACY * self.radius + 4 * torch.finfo(z.dtype).eps * self._far
        level, excess = probe.miss.abs() <= slack, probe.size - self.radius.square()
        least = self._least(z, mu, excess, slack, probe)
        safe = level & (probe.size <= (self.radius + slack).square())
        low, high = torch.where(probe.miss > 0, mu, low), torch.where(probe.miss > 0, high, mu)
        short, good = torch.where(safe, z, short), torch.where(safe, mu, good)
        long = torch.where(level & ~safe, z, torch.maximum(long, torch.minimum(least, short)))
        close = safe & (probe.size >= (self.radius - 5 * slack).clamp_min(0).square())
        settled = close | (short - long <= 0.1 * slack)

        limit = 4 * mu.abs() + 2 * _USUAL_PULL * self.radius
        onto = (probe.miss / probe.grip).clamp(-limit, limit)  # the change of mu that ends on the hyperplane
        root, turn = self._root(z, mu, excess, onto, probe)
        next_z = _inside(z + root, long, short)
        next_mu = mu + onto + (turn * (next_z - z)).clamp(-limit, limit)
        if patient:
            next_z, next_mu = torch.where(level, next_z, z), torch.where(level, next_mu, _inside(mu + onto, low, high))
        moved = torch.where(next_z == z, 0, torch.inf)
        low, high = torch.minimum(low, -moved), torch.maximum(high, moved)
        return torch.stack([next_z, next_mu, low, high, long, short, good]), settled.flatten()

    def _root(self, z: Tensor, mu: Tensor, excess: Tensor, onto: Tensor, probe: _Probe) -> tuple[Tensor, Tensor]:
        """Return the change of z after which |d| = r, and the change of mu with z that keeps b.d.

        While the same coordinates are clipped, |d|^2 - r^2 = excess + 2 fall dz + bend dz^2 after mu has moved onto the
        hyperplane; its falling branch counts.
        """
        turn = -probe.tilt / probe.grip
        pull = mu * probe.grip + self._coupling * z * probe.tilt  # d.b over the free coordinates
        slope = turn * probe.grip + self._coupling * probe.tilt  # the change of d with z, times b, over the same
        excess = excess + 2 * onto * pull + onto.square() * probe.grip
        fall = probe.gain + turn * pull + onto * slope
        bend = probe.spread + turn * (slope + self._coupling * probe.tilt)
        return excess / ((fall.square() - bend * excess).clamp_min(0).sqrt() - fall), turn

    def _lengthened(self, delta: Tensor, greedy: Tensor) -> Tensor:
        """Return the step moved towards the best one until its length is r: it cannot become worse.

        All between the two is on the hyperplane and in the box, and what is minimised is convex.
        """
        more = greedy - delta
        excess, fall, bend = _dot(delta, delta) - self.radius.square(), _dot(delta, more), _dot(more, more)
        share = -excess / ((fall.square() - bend * excess).clamp_min(0).sqrt() + fall)
        return torch.addcmul(delta, more, share.nan_to_num(0).clamp(0, 1))


class L2BoundaryStep(BoundaryStep):
    """The step that ends nearest to the clean image in Euclidean distance.

    Example:
        >>> L2BoundaryStep.shorten(torch.tensor([[4.0, -2.0]]), torch.tensor([[0.5]]))
        tensor([[ 2., -1.]])
    """

    _coupling: ClassVar[float] = 1.0

    @staticmethod
    def shorten(delta: Rows, share: Scalars) -> Rows:
        """Return the perturbations times the share."""
        return share * delta

    @cached_property
    def _away(self) -> Tensor:
        """The unit vector from the clean image."""
        return -self.goal / self._far.clamp_min(torch.finfo(self.goal.dtype).tiny)

    def _greedy(self) -> _End:
        distance, sign = self._climb(self.normal.abs())
        z, mu = -self._far, distance * sign
        return _End(z, mu, self._clip(z, mu)[1])

    def _last(self, delta: Tensor) -> Tensor:
        return torch.zeros_like(self.offset)

    def _guess(self, greedy: _End, shortest: _End) -> tuple[Tensor, Tensor]:
        """Return the exact solution for constraints that are active at both ends or at none."""
        least, most = _dot(shortest.delta, shortest.delta), _dot(greedy.delta, greedy.delta)
        share = ((self.radius.square() - least) / (most - least)).nan_to_num(0).clamp(0, 1).sqrt()
        return -share * self._far, torch.lerp(shortest.mu, greedy.mu, share)

    def _clip(self, z: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        raw = torch.addcmul(z * self._away, self.normal, mu)
        return raw, raw.clamp(self.low, self.high)

    def _drift(self, delta: Tensor, free: Tensor, z: Tensor) -> Tensor:
        return free * self._away

    def _least(self, z: Tensor, mu: Tensor, excess: Tensor, slack: Tensor, probe: _Probe) -> Tensor:
        return -self._far


class LinfBoundaryStep(BoundaryStep):
    """The step whose end differs least from the clean image in its most changed pixel.

    Example:
        >>> LinfBoundaryStep.shorten(torch.tensor([[4.0, -1.0]]), torch.tensor([[0.5]]))
        tensor([[ 2., -1.]])
    """

    _coupling: ClassVar[float] = 0.0

    @staticmethod
    def shorten(delta: Rows, share: Scalars) -> Rows:
        """Return the perturbations clipped to the share of the largest."""
        limit = share * delta.abs().amax(1, keepdim=True)
        return delta.clamp(-limit, limit)

    @cached_property
    def _reach(self) -> Tensor:
        return self.goal.abs().amax(1, keepdim=True)

    @cached_property
    def _floor(self) -> Tensor:
        return self.goal - self._reach

    @cached_property
    def _ceiling(self) -> Tensor:
        return self.goal + self._reach

    def _greedy(self) -> _End:
        distance, sign = self._climb(torch.ones_like(self.normal))
        z, mu = distance - self._reach, sign * torch.finfo(sign.dtype).max ** 0.5
        return _End(z, mu, self._clip(z, mu)[1])

    def _last(self, delta: Tensor) -> Tensor:
        return torch.maximum(delta - self._ceiling, self._floor - delta).amax(1, keepdim=True)

    def _guess(self, greedy: _End, shortest: _End) -> tuple[Tensor, Tensor]:
        """Return nearly the least z for which some d has |d - v| <= max |v| + z and |d| <= r: no plane, no box."""
        below, z = self.goal.abs() - self._reach, -self.radius
        for _ in range(3):
            rest = (below - z).clamp_min_(0)
            excess, fall = _dot(rest, rest) - self.radius.square(), -rest.sum(1, keepdim=True)
            count = rest.sign_().sum(1, keepdim=True)
            step = excess / ((fall.square() - count * excess).clamp_min(0).sqrt() - fall)
            z = torch.where(excess > 0, z + step, z)
        return _inside(z, greedy.z, shortest.z), greedy.mu.sign() * _USUAL_PULL * self.radius

    def _clip(self, z: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        raw = mu * self.normal
        low, high = torch.maximum(self.low, self._floor - z), torch.minimum(self.high, self._ceiling + z)
        return raw, raw.clamp(low, high)

    def _drift(self, delta: Tensor, free: Tensor, z: Tensor) -> Tensor:
        return (self._ceiling + z).eq_(delta).sub_((self._floor - z).eq_(delta))

    def _least(self, z: Tensor, mu: Tensor, excess: Tensor, slack: Tensor, probe: _Probe) -> Tensor:
        """Return where a tangent of the least |d|^2 on the hyperplane, which is convex in c and z, meets r^2."""
        height = excess + 2 * mu * probe.miss - (mu.abs() + self.radius) * slack
        return z + height / (2 * (mu * probe.tilt - probe.gain)).clamp_min(1e-20)
