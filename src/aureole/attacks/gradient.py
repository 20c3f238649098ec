"""The gradient attacks FGSM, R+FGSM, BIM, MIM and PGD: each is a particle search with one particle.

    x_adv <- project(x_adv + step_size * steepest(grad objective(f(x_adv), y)))

They differ in the start, the number of steps and the step rule alone (thesis section 2.4.1), and work in any ball,
targeted or not. ``num_restarts`` tries again those images that still stand, and keeps for each the first start that
fools the model, else the one with the highest objective.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from aureole.attacks.base import Attack
from aureole.core.checks import check_target
from aureole.core.errors import InputError
from aureole.core.model import frozen, predict
from aureole.core.objectives import CrossEntropy, Objective, Targeted
from aureole.core.random import Streams, streams_for
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import AtImage, InBall, SignedNormal, Start
from aureole.particles.steps import Momentum


class _Result(NamedTuple):
    fooled: Bool[Tensor, " batch"]
    value: Float[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack):
    """A search with one particle, repeated on the images that still stand.

    Attributes:
        objective: what the adversarial images maximise.
        targeted: pull the prediction to ``y`` instead of away from it.
        num_restarts: runs in all, at least 1.
        max_batch: most images in one pass through the model; None for all at once.
    """

    objective: Objective = CrossEntropy()
    targeted: bool = False
    num_restarts: int = 1
    max_batch: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_restarts < 1:
            raise InputError(f"num_restarts must be at least 1; got {self.num_restarts}")

    @property
    @abstractmethod
    def search(self) -> ParticleSearch:
        """The search that one run of this attack is."""

    def _search(self, *, num_steps: int, step_size: float, start: Start, **fields: object) -> ParticleSearch:
        return ParticleSearch(
            self.ball,
            num_particles=1,
            kernel=None,
            objective=Targeted(self.objective) if self.targeted else self.objective,
            num_steps=num_steps,
            step_size=step_size,
            start=start,
            max_batch=self.max_batch,
            **fields,  # pyright: ignore[reportArgumentType]
        )

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, "batch *event"]:
        """Return adversarial images; see :class:`aureole.attacks.base.Attack`."""
        check_target(y, targeted=self.targeted)
        streams = streams_for(x, generator)
        before = streams.draws
        x_adv = self.search(model, x, y, generator=streams).x_adv[0]
        if self.num_restarts > 1:
            draws = streams.draws - before
            self._restart(model, x, y, x_adv, streams)
            streams.draws = before + self.num_restarts * draws  # as if all had run, whoever shared the batch
        return x_adv

    @torch.no_grad()
    def _restart(self, model: nn.Module, x: Tensor, y: Tensor | None, x_adv: Tensor, streams: Streams) -> None:
        """Try again the images that still stand, until none does or all runs are spent; better ones go to ``x_adv``."""
        clean = self._logits(model, x)
        labels = clean.argmax(-1) if y is None else y
        standing = torch.arange(len(x), device=x.device)
        result = self._judge(model, x_adv, clean, labels)
        for _ in range(1, self.num_restarts):
            remaining = ~result.fooled
            if not bool(remaining.any()):
                break
            standing, value = standing[remaining], result.value[remaining]
            streams = streams.select(remaining)
            again = self.search(model, x[standing], labels[standing], generator=streams).x_adv[0]
            result = self._judge(model, again, clean[standing], labels[standing])
            better = result.fooled | (result.value > value)
            x_adv[standing[better]] = again[better]
            result = result._replace(value=torch.maximum(result.value, value))

    def _logits(self, model: nn.Module, x: Tensor) -> Tensor:
        with frozen(model):
            return torch.cat([predict(model, part) for part in x.split(self.max_batch or len(x))])

    def _judge(self, model: nn.Module, x_adv: Tensor, clean: Tensor, labels: Tensor) -> _Result:
        logits = self._logits(model, x_adv)
        hit = logits.argmax(-1) == labels
        return _Result(hit if self.targeted else ~hit, self.search.objective(logits, clean, labels))


@dataclass(frozen=True, kw_only=True)
class FGSM(GradientAttack):
    """Fast gradient sign method: one step of the whole radius (Goodfellow et al. 2015; thesis Eq. 2.24).

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> FGSM(ball=Linf(0.1))(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2])).shape
        torch.Size([2, 1, 2, 2])
    """

    @property
    def search(self) -> ParticleSearch:
        """One step of the radius from the image itself."""
        return self._search(num_steps=1, step_size=self.ball.radius, start=AtImage())


@dataclass(frozen=True, kw_only=True)
class RFGSM(GradientAttack):
    """FGSM after a random step: x + start * sign(N(0, 1)), then one step of the rest (thesis Eq. 2.25).

    Attributes:
        start_fraction: share of the radius that the random step takes, in (0, 1); Tramer et al. 2018 take one half.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> x_adv = RFGSM(ball=Linf(0.1))(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    start_fraction: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start_fraction < 1:
            raise InputError(f"start_fraction must lie between 0 and 1; got {self.start_fraction}")

    @property
    def search(self) -> ParticleSearch:
        """One step of the rest of the radius, from a random corner."""
        first = self.start_fraction * self.ball.radius
        return self._search(num_steps=1, step_size=self.ball.radius - first, start=SignedNormal(first))


@dataclass(frozen=True, kw_only=True)
class BIM(GradientAttack):
    """Basic iterative method: steps from the image itself (Kurakin et al. 2017; thesis Eq. 2.26).

    Attributes:
        num_steps: number of steps.
        step_size: length of a step, in the units of the images.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> x_adv = BIM(ball=Linf(0.1), num_steps=3)(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    num_steps: int = 10
    step_size: float = 2 / 255

    @property
    def search(self) -> ParticleSearch:
        """Steps from the image itself."""
        return self._search(num_steps=self.num_steps, step_size=self.step_size, start=AtImage())


@dataclass(frozen=True, kw_only=True)
class MIM(GradientAttack):
    """Momentum iterative method: BIM along accumulated gradients (Dong et al. 2018).

    Attributes:
        num_steps: number of steps.
        step_size: length of a step, in the units of the images.
        decay: what is kept of the accumulated gradient at each step.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> x_adv = MIM(ball=Linf(0.1), num_steps=3)(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    num_steps: int = 10
    step_size: float = 2 / 255
    decay: float = 1.0

    @property
    def search(self) -> ParticleSearch:
        """Steps from the image along the momentum."""
        step = Momentum(self.decay)
        return self._search(num_steps=self.num_steps, step_size=self.step_size, start=AtImage(), step=step)


@dataclass(frozen=True, kw_only=True)
class PGD(GradientAttack):
    """Projected gradient descent: steps from a random point of the ball (Madry et al. 2018; thesis Eq. 2.27).

    Attributes:
        num_steps: number of steps.
        step_size: length of a step, in the units of the images.
        start: where a run begins.
        keep: ``"last"`` iterate, or the ``"best"`` by the objective.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
        >>> x_adv = PGD(ball=Linf(0.1), num_steps=3, num_restarts=2)(model, x, y)
        >>> Linf(0.1).contains(x_adv, x)
        tensor([True, True])
    """

    num_steps: int = 20
    step_size: float = 2 / 255
    start: Start = InBall()
    keep: Literal["last", "best"] = "last"

    @property
    def search(self) -> ParticleSearch:
        """Steps from a random point of the ball."""
        return self._search(num_steps=self.num_steps, step_size=self.step_size, start=self.start, keep=self.keep)
