"""The search for adversarial particles: Algorithm 5.1 as balls x objective x kernel x step rule.

    x_i <- project(x_i + step_size * r(phi_i)),   phi_i = drive_i + temperature * repulsion_i

with drive and repulsion of Stein variational gradient descent (Liu and Wang 2016; thesis Eq. 5.7). One particle is
exactly PGD. Departures from the authors' code: the kernel lives on one image's particles (theirs on the whole batch),
and its width is by the median rule (theirs, 10^(1 - n), leaves no repulsion for images; ``RBF("thesis", scope="batch",
space="image")`` has it).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.core import checks
from aureole.core.balls import L2, Ball
from aureole.core.errors import InputError, unknown_name
from aureole.core.model import Mode, predict, searched
from aureole.core.objectives import CrossEntropy, Objective
from aureole.core.random import Streams, streams_for
from aureole.particles.diversity import Diversity, diversity, pairwise_cosine, pairwise_squared_distance
from aureole.particles.kernels import RBF, Kernel
from aureole.particles.starts import InBall, Start
from aureole.particles.steps import Steepest, StepRule

Points = Float[Tensor, "num_particles batch *event"]
Keep = Literal["last", "best"]
_EUCLIDEAN = L2(1.0, bounds=None)
_SUCH_AS = {
    "ball": "Linf(8 / 255)",
    "objective": "CrossEntropy()",
    "kernel": "RBF()",
    "step": "Steepest()",
    "start": "InBall()",
}


@dataclass(frozen=True)
class Particles:
    """Adversarial particles of a batch of images.

    Attributes:
        x_adv: the particles, shape (num_particles, batch, *event), without gradient.
        x: the images.
        objective: objective at the last gradient (for ``keep="best"``: the best), shape (num_particles, batch).
        kernel: mean off-diagonal kernel value of each image at the last step, shape (batch,); None without a kernel.

    Example:
        >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(5, 1, 2, 2)
        >>> particles = ParticleSearch(Linf(0.1), num_particles=3, num_steps=2)(model, x)
        >>> particles.objective.shape, particles.squared_distance.shape
        (torch.Size([3, 5]), torch.Size([5]))
    """

    x_adv: Points
    x: Float[Tensor, "batch *event"]
    objective: Float[Tensor, "num_particles batch"]
    kernel: Float[Tensor, " batch"] | None

    @cached_property
    def squared_distance(self) -> Float[Tensor, " batch"]:
        """Mean over pairs of |x_i - x_j|^2, of each image (the thesis's SSE)."""
        return pairwise_squared_distance(self.x_adv)

    @cached_property
    def cosine(self) -> Float[Tensor, " batch"]:
        """Mean over pairs of the cosine between the perturbations, of each image."""
        return pairwise_cosine(self.x_adv, self.x)

    def diversity(self, model: nn.Module, y: Int[Tensor, " batch"], objective: Objective | None = None) -> Diversity:
        """Measure strength and spread at the final particles, with one more forward pass."""
        return diversity(model, self.x_adv, self.x, y, objective or CrossEntropy())


@dataclass(frozen=True)
class ParticleSearch:
    """Find particles of the adversarial local distribution of each image.

    Args:
        ball: where the particles may lie.
        num_particles: particles an image.
        num_steps: steps; 0 returns the start.
        step_size: length of a step, in the units of the images.
        objective: what the particles maximise.
        kernel: how the particles of an image repel one another; None for independent restarts.
        temperature: multiplies the repulsion. The particles follow exp(objective / temperature): higher spreads them
            more and makes each a weaker attack. The default comes from robust training (``results/kernel-mnist``).
        balance: if given, drive and repulsion are each scaled to unit length, and the repulsion times this is added;
            the temperature then has no effect.
        step: from direction to displacement.
        start: where the particles begin.
        keep: ``"last"`` iterate, or the ``"best"`` by the objective (one forward pass more).
        mode: the model's mode during the search, see :func:`aureole.core.model.frozen`.
        max_batch: most images in one pass through the model; None for all at once. The result is the same.
        one_by_one: run one particle of all images after the other through the model, each on the batch statistics of
            its own: memory for one particle, however many there are.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> search = ParticleSearch(Linf(0.1), num_particles=3, num_steps=2, step_size=0.05)
        >>> search(model, torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])).x_adv.shape
        torch.Size([3, 5, 1, 2, 2])

    Source:
        Thesis Algorithm 5.1 and Eqs. 5.4 to 5.7.
    """

    ball: Ball
    num_particles: int = 4
    num_steps: int = 10
    step_size: float = 2 / 255
    objective: Objective = CrossEntropy()
    kernel: Kernel | None = RBF()
    temperature: float = 1 / 30
    balance: float | None = None
    step: StepRule = Steepest()
    start: Start = InBall()
    keep: Keep = "last"
    mode: Mode = "eval"
    max_batch: int | None = None
    one_by_one: bool = False

    def __post_init__(self) -> None:
        kinds = {"ball": Ball, "objective": Objective, "kernel": Kernel | None, "step": StepRule, "start": Start}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                wanted = "a Kernel or None" if name == "kernel" else f"an instance of {kind.__name__}"
                raise InputError(f"{name} must be {wanted}, such as {_SUCH_AS[name]}; got {value!r}")
        for name, known in {"keep": Keep, "mode": Mode}.items():
            if getattr(self, name) not in get_args(known):
                raise unknown_name(name, str(getattr(self, name)), get_args(known))
        self._check_numbers()

    def _check_numbers(self) -> None:
        least = {"num_particles": 1, "num_steps": 0, "max_batch": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < low):
                raise InputError(f"{name} must be an integer of at least {low}; got {value!r}")
        if not 0 < self.step_size < math.inf or not self.temperature > 0:
            raise InputError(f"step_size and temperature must be positive; got {self.step_size} and {self.temperature}")
        if self.balance is not None and not 0 <= self.balance < math.inf:
            raise InputError(f"the balance must be at least 0; got {self.balance}")
        if self.max_batch is not None and self.one_by_one:
            raise InputError("max_batch and one_by_one both split the batch: choose one")
        if self.max_batch is not None and self.mode == "batch_statistics":
            raise InputError("max_batch splits the batch, which changes its statistics: use mode='eval' with it")

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        clean: Float[Tensor, "batch classes *positions"] | None = None,
        generator: torch.Generator | Streams | None = None,
    ) -> Particles:
        """Search, and leave the model and every random state but the generator's as they were.

        Args:
            model: maps images (batch, *event) to logits (batch, classes).
            x: images inside the bounds of the ball.
            y: labels from 0; None takes the model's own predictions where the objective needs labels.
            clean: the model's logits at the images, where the caller has them; None asks the model where the objective
                needs them.
            generator: source of the start and of any noise; see :func:`aureole.core.random.streams_for`.

        Returns:
            The particles, inside the ball and the bounds.

        Raises:
            InputError: images, labels, devices or the model's output are not as described.
        """
        checks.check_call(model, x, y, self.ball)
        trusted = not model.training  # a model in training makes no claim that would need a warning
        with searched(model, x, self.mode) as images:
            return _Ascent(self, model, images, y, clean, trusted=trusted).run(streams_for(images, generator))


class _Ascent:
    """One run of a search: the targets, and the memory of its steps."""

    def __init__(
        self,
        search: ParticleSearch,
        model: nn.Module,
        x: Tensor,
        y: Tensor | None,
        clean: Tensor | None,
        *,
        trusted: bool,
    ) -> None:
        self.search, self.model, self.x = search, model, x
        self.unchecked, self.suspect = True, trusted
        n, objective = search.num_particles, search.objective
        if clean is None and (objective.needs_clean or (objective.needs_labels and y is None)):
            clean = torch.cat([self._predict(part) for part in x.split(search.max_batch or len(x))])
        if clean is not None and y is None:
            y = clean.argmax(1)
        self.clean = torch.cat([clean.detach()] * n) if clean is not None and objective.needs_clean else None
        self.labels = y.long().repeat(n) if y is not None and objective.needs_labels else None
        self.values: Tensor | None = None
        self.kernel: Tensor | None = None

    def _predict(self, rows: Tensor) -> Tensor:
        return predict(self.model, rows, positions=self.search.objective.positions)

    def run(self, streams: Streams) -> Particles:
        search, best = self.search, None
        x_adv = search.start(self.x, search.ball, streams, search.num_particles, self.direction)
        project, state = search.ball.projector(self.x), None
        for _ in range(search.num_steps):
            direction = self.direction(x_adv)
            best = self._better(best, x_adv)
            move, state = search.step(direction, search.step_size, search.ball, streams, state)
            x_adv = project(x_adv + move)
        if search.keep == "best" or self.values is None:
            self.values = self._evaluate(x_adv, with_gradient=False)[0]
            best = self._better(best, x_adv)
        self._warn_without_repulsion()
        if search.keep == "best" and best is not None:
            x_adv, self.values = best
        assert self.values is not None
        return Particles(x_adv, self.x, self.values, self.kernel)

    def direction(self, x_adv: Tensor) -> Tensor:
        """Return phi at the particles, and remember the objective and the kernel there."""
        search = self.search
        self.values, score = self._evaluate(x_adv, with_gradient=True)
        if search.kernel is None or search.num_particles == 1:
            return score
        drive, repulsion, self.kernel = search.kernel(score, x_adv, self.x)
        if search.balance is None:
            return drive + search.temperature * repulsion
        event_ndim = self.x.ndim - 1
        unit_drive, unit_repulsion = (_EUCLIDEAN.steepest(t, event_ndim) for t in (drive, repulsion))
        return unit_drive + search.balance * unit_repulsion

    def _evaluate(self, x_adv: Tensor, *, with_gradient: bool) -> tuple[Tensor, Tensor]:
        """Return the objective (num_particles, batch) and its gradient, in as many passes as the search asks for."""
        rows = x_adv.flatten(0, 1)
        size = len(self.x) if self.search.one_by_one else self.search.max_batch or len(rows)
        values, gradients = [], []
        for begin in range(0, len(rows), size):
            part = slice(begin, begin + size)
            value, gradient = self._pass(rows[part], part, with_gradient)
            values.append(value)
            gradients.append(gradient)
        gradient = torch.cat(gradients) if len(gradients) > 1 else gradients[0]
        self.unchecked = self.suspect = False
        return torch.cat(values).view(x_adv.shape[:2]), gradient.view_as(x_adv)

    def _pass(self, rows: Tensor, part: slice, with_gradient: bool) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(with_gradient):
            rows = rows.detach().requires_grad_(with_gradient)
            logits = self._predict(rows)
            if self.unchecked and self.labels is not None:
                checks.check_classes(self.labels, logits.shape[1])
            if self.suspect:
                checks.warn_softmax(logits)
            clean = None if self.clean is None else self.clean[part]
            labels = None if self.labels is None else self.labels[part]
            values = self.search.objective(logits, clean, labels)
            total = values.sum()
        if not with_gradient:
            return values, rows
        gradient = torch.autograd.grad(total, rows, allow_unused=True)[0] if total.requires_grad else None
        if gradient is None:
            raise InputError(
                "the model's output does not depend differentiably on the images: no gradient attack can work"
            )
        if self.suspect:
            standing = logits.argmax(-1) == labels if labels is not None else torch.ones_like(values, dtype=torch.bool)
            checks.warn_zero_gradient(gradient, standing)
        return values.detach(), gradient

    def _better(self, best: tuple[Tensor, Tensor] | None, x_adv: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the best iterate of each particle so far, and its objective."""
        values = self.values
        if self.search.keep == "last" or values is None:
            return None
        if best is None:
            return x_adv, values
        better = values > best[1]
        shape = (*better.shape, *(1,) * (x_adv.ndim - 2))
        return torch.where(better.view(shape), x_adv, best[0]), torch.where(better, values, best[1])

    def _warn_without_repulsion(self) -> None:
        if self.kernel is not None and bool(self.kernel.amax() < 1e-6):
            warnings.warn(
                "the kernel is too narrow: all its off-diagonal values are below 1e-6, so that nothing repels and the"
                " particles are independent restarts (choose bandwidth='median', or kernel=None to say so)",
                stacklevel=4,
            )
