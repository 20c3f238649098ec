"""The Brendel and Bethge attack: walk along the decision boundary to the adversarial image nearest to the clean one.

From an adversarial image just across the boundary, each step minimises the distance to the clean image on the boundary
as its gradient shows it, inside the box of the data and a small trust region (Brendel et al. 2019). It needs few
queries, has hardly anything to tune, and stays where its gradient is informative: on the boundary.

Departures from the authors' code (foolbox):

- the trust radius is learning_rate * number of values of one image * range of the data; theirs counts the values of the
  whole batch, so that a result depends on the other images. A batch of n images there with learning rate l moves as one
  with n * l here;
- a starting point for each image comes from PGD in growing balls, which works on robust models, and from blended
  noise where that fails; an image without one is returned as it is (theirs stops with an error for the whole batch);
- the subproblem is solved for all images at once (:mod:`aureole.attacks.trust_region`), theirs one by one;
- an image is adversarial if its margin exceeds the rounding of the logits, so that a second look agrees.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.attacks.fields import check_counts, check_numbers
from aureole.attacks.gradient import PGD
from aureole.attacks.minimal import MinimalAttack
from aureole.attacks.trust_region import BoundaryStep, L2BoundaryStep, LinfBoundaryStep
from aureole.core.balls import L2, Ball, Linf
from aureole.core.errors import InputError, UntrustedResult
from aureole.core.model import predict
from aureole.core.objectives import Margin
from aureole.core.random import Streams

_STEPS: dict[type[Ball], type[BoundaryStep]] = {Linf: LinfBoundaryStep, L2: L2BoundaryStep}
_START_STEPS = 10  # of PGD, in each of the growing balls
_NOISES, _BLENDS = 50, 20


@dataclass(frozen=True, kw_only=True)
class BrendelBethge(MinimalAttack):
    """The nearest adversarial image in Linf or L2, along the decision boundary (Brendel et al. 2019).

    ``minimize`` looks for the least distance; a call is done with an image as soon as one is found within the radius.

    Attributes:
        num_steps: gradients an image; 200 in the thesis, 1000 in the paper.
        learning_rate: the trust radius is this times the sum over one image's values of their range, Euclidean.
        learning_rate_decay: factor on the learning rate at regular intervals, in (0, 1].
        num_decays: how many intervals the steps fall into.
        momentum: share of the earlier normals of the boundary in the present one, in [0, 1).
        overshoot: how far a step aims across the boundary, in [1, 2]: 1 ends on it; beyond, an image that is not
            adversarial goes so much farther, and one that is comes so much less near.
        num_binary_search_steps: halvings between the clean image and the starting point.
        stop_at: distance at which an image is done; 0 goes on to the end.

    Raises:
        InputError: the ball is neither ``Linf`` nor ``L2``, it has no bounds, or a number is out of its range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> attack = BrendelBethge(ball=L2(0.5), num_steps=20)
        >>> x = torch.rand(3, 1, 2, 2)
        >>> L2(0.5).contains(attack(model, x), x)
        tensor([True, True, True])

    Source:
        Brendel, Rauber, Kuemmerer, Ustyuzhaninov and Bethge 2019, "Accurate, reliable and fast robustness evaluation".
    """

    num_steps: int = 200
    learning_rate: float = 1e-3
    learning_rate_decay: float = 0.5
    num_decays: int = 20
    momentum: float = 0.8
    overshoot: float = 1.1
    num_binary_search_steps: int = 10
    stop_at: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.ball) not in _STEPS:
            raise InputError(f"BrendelBethge works in the balls Linf and L2; got {self.ball!r}")
        if self.ball.bounds is None:
            raise InputError("BrendelBethge needs the bounds of the data: give the ball some, such as (0.0, 1.0)")
        check_counts(self, num_steps=1, num_decays=1, num_binary_search_steps=1, max_batch=1)
        check_numbers(self, "learning_rate", "learning_rate_decay")
        check_numbers(self, "momentum", "overshoot", "stop_at", zero=True)
        if self.learning_rate_decay > 1 or self.momentum >= 1 or not 1 <= self.overshoot <= 2:
            given = f"{self.learning_rate_decay}, {self.momentum} and {self.overshoot}"
            raise InputError(
                "learning_rate_decay must be at most 1, momentum below 1 and overshoot from 1 to 2; got " + given
            )

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images within the radius; see :class:`aureole.attacks.base.Attack`."""
        enough = replace(self, stop_at=max(self.stop_at, self.ball.radius))
        return super(BrendelBethge, enough).__call__(model, x, y, generator=generator)

    def _minimize(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
        x_adv, found = self._starts(model, x, y, streams)
        if not bool(found.all()):
            warnings.warn(
                f"no adversarial image to start from was found for {int((~found).sum())} of {len(x)} images: they are"
                " returned as they are, and their robustness is not shown",
                UntrustedResult,
                stacklevel=5,
            )
        if bool(found.any()):
            x, y = x[found], y[found]
            x_adv[found] = self._follow(model, x, y, self._nearer(model, x, y, x_adv[found]))
        return x_adv

    def _starts(self, model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        """Return adversarial images, and which ones are: by PGD in growing balls, then by noise."""
        start, standing, noisy = x.clone(), torch.arange(len(x), device=x.device), torch.zeros_like(y).bool()
        for radius in (*self._radii(x), *(None,) * _NOISES):
            if radius is None:
                low, high = self._limits(x)
                noise = streams.uniform(tuple(x[standing].shape)).to(x.dtype)
                tried = torch.lerp(low, high, noise)
            else:
                ball = replace(self.ball, radius=radius)
                pgd = PGD(ball=ball, num_steps=_START_STEPS, step_size=radius / 4, objective=Margin())
                tried = pgd(model, x[standing], y[standing], generator=streams)
            found = _fooled(model, tried, y[standing])
            start[standing[found]], noisy[standing[found]] = tried[found], radius is None
            standing, streams = standing[~found], streams.select(~found)
            if not len(standing):
                break
        if bool(noisy.any()):
            start[noisy] = _blended(model, x[noisy], y[noisy], start[noisy])
        return start, torch.ones_like(noisy).index_fill_(0, standing, False)

    def _limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bounds of the data, in the shape of one image."""
        limits = self.ball.limits(x)
        assert limits is not None
        low, high = (bound.expand(x.shape[1:]) for bound in limits)
        return low, high

    def _radii(self, x: Tensor) -> Iterator[float]:
        """Yield 2, 4, 8, ... times the ball's radius, up to the size of the box."""
        low, high = self._limits(x)
        largest, radius = float(self.ball.norm(high - low, x.ndim - 1)), 2 * self.ball.radius
        while radius < largest:
            yield radius
            radius *= 2
        yield largest

    def _nearer(self, model: nn.Module, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
        """Return adversarial images between the clean ones and the starts, near the boundary, by binary search."""
        shorten, delta = _STEPS[type(self.ball)].shorten, (start - x).flatten(1)
        near, far = torch.zeros_like(delta[:, :1]), torch.ones_like(delta[:, :1])
        best = start
        for _ in range(self.num_binary_search_steps):
            share = (near + far) / 2
            tried = self.ball.clip(x + shorten(delta, share).view_as(x))
            found = _fooled(model, tried, y)
            best = torch.where(_like(found, x), tried, best)
            near, far = torch.where(found[:, None], near, share), torch.where(found[:, None], share, far)
        return best

    def _follow(self, model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor) -> Tensor:
        """Walk along the boundary from adversarial images; return the nearest adversarial ones met."""
        result, rows, normal = x_adv.clone(), torch.arange(len(x), device=x.device), torch.zeros_like(x)
        best, distance = x_adv, self.ball.distance(x_adv, x)
        for step in range(self.num_steps + 1):
            standing = distance > self.stop_at
            if self.stop_at and not bool(standing.all()):
                result[rows] = best
                state = (rows, x, y, x_adv, normal, best, distance)
                rows, x, y, x_adv, normal, best, distance = (part[standing] for part in state)
                if not len(rows):
                    break
            margin, gradient = _margin_and_gradient(model, x_adv, y)
            reached = self.ball.distance(x_adv, x)
            closer = (margin > 0) & (reached < distance)
            best, distance = torch.where(_like(closer, x), x_adv, best), torch.where(closer, reached, distance)
            normal = torch.lerp(gradient, normal, self.momentum if step else 0.0)
            if step < self.num_steps:
                x_adv = self._step(x, x_adv, normal, margin, step)
        result[rows] = best
        return result

    def _step(self, x: Tensor, x_adv: Tensor, normal: Tensor, margin: Tensor, step: int) -> Tensor:
        """Return the next images: nearest to the clean ones where the linearised margin is slightly above zero."""
        low, high = self._limits(x)
        rate = self.learning_rate * self.learning_rate_decay ** (step // max(1, self.num_steps // self.num_decays))
        rounding = 2 * torch.finfo(x.dtype).eps * (normal * (high - low)).abs().flatten(1).sum(1)  # of the images
        offset = torch.where(margin > 0, (self.overshoot - 2) * margin, rounding - self.overshoot * margin)
        problem = _STEPS[type(self.ball)](
            goal=(x - x_adv).flatten(1),
            normal=normal.flatten(1),
            offset=offset[:, None],
            low=(low - x_adv).flatten(1),
            high=(high - x_adv).flatten(1),
            radius=(rate * (high - low).sum()).expand(len(x), 1),
        )
        return self.ball.clip(x_adv + problem.solve().view_as(x))


def _like(values: Tensor, x: Tensor) -> Tensor:
    """Return one value an image, in a shape that broadcasts against the images."""
    return values.view(-1, *(1,) * (x.ndim - 1))


def _margin(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    """Return by how much the margin exceeds the rounding of the logits."""
    logits = predict(model, x_adv)
    return Margin()(logits, labels=y) - 8 * torch.finfo(logits.dtype).eps * logits.detach().abs().amax(1)


def _fooled(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    return _margin(model, x_adv, y) > 0


def _margin_and_gradient(model: nn.Module, x_adv: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x_adv = x_adv.detach().requires_grad_()
        margin = _margin(model, x_adv, y)
        (gradient,) = torch.autograd.grad(margin.sum(), x_adv)
    return margin.detach(), gradient


def _blended(model: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """Return the adversarial images nearest to the clean ones among blends with the noise."""
    best = noise
    for count in range(_BLENDS - 1, 0, -1):
        blend = torch.lerp(x, noise, count / _BLENDS)
        best = torch.where(_like(_fooled(model, blend, y), x), blend, best)
    return best
