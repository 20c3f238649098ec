"""ALD: regularise a model over its adversarial local distribution, sampled by Stein particles.

    L = CE(f(x), y) + weight * R(theta, x, y),    x_1..x_n ~ P(x_adv | x, y) = exp(objective(x_adv)) / Z on the ball

Thesis Eqs. 5.4, 5.5 and 5.15; Algorithm 5.1 finds the particles. The objective is the cross-entropy (ALD-PGD) or the KL
divergence (ALD-TRADES). Two readings of R, by their gradients:

    "mean"        1/n sum_i grad l_i = grad log Z: what the authors' code trains, and the default
    "covariance"  1/(n-1) sum_i (l_i - mean l) grad l_i = Cov(l, grad l): the gradient of Eq. 5.5, minus the entropy

The second is zero for one particle; only the first makes PGD and TRADES the case of one particle, as the thesis says.
Departures from the authors' code: the kernel of :class:`~aureole.particles.search.ParticleSearch`; ALD-TRADES runs the
clean batch once instead of once a particle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aureole.core.balls import Linf
from aureole.core.errors import InputError, unknown_name
from aureole.core.method import Batch, Method, Terms
from aureole.core.model import predict
from aureole.core.objectives import KL
from aureole.core.random import Streams
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Normal
from aureole.robust.trades import check_compares

Estimator = Literal["mean", "covariance"]


@dataclass(frozen=True)
class ALD:
    """The regulariser alone, one value an example, for any training loop.

    Args:
        search: how the particles are found, and the objective that the regulariser averages.
        estimator: which reading of R; see the top of this file.

    Raises:
        InputError: the estimator is unknown, or the covariance is asked for with one particle.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> ald = ALD(ParticleSearch(Linf(0.1), num_particles=2, num_steps=1, step_size=0.05))
        >>> ald(model, torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])).shape
        torch.Size([5])
    """

    search: ParticleSearch
    estimator: Estimator = "mean"

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise unknown_name("estimator", self.estimator, get_args(Estimator))
        if self.estimator == "covariance" and self.search.num_particles < 2:
            raise InputError("the estimator 'covariance' needs at least 2 particles; got 1 (use 'mean')")

    def __call__(
        self,
        model: nn.Module,
        x: Float[Tensor, "batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        clean_logits: Float[Tensor, "batch classes"] | None = None,
        generator: torch.Generator | Streams | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return the regulariser of each example, with its gradient to the model's parameters.

        Args:
            model: maps images to logits.
            x: images inside the bounds of the ball.
            y: labels; None where the objective needs none.
            clean_logits: the model's output on ``x``, if it is at hand, for an objective that compares with it.
            generator: source of randomness.

        Returns:
            One value an example. For ``"covariance"`` it is the sample variance of the objective over the particles.

        Raises:
            InputError: as :class:`~aureole.particles.search.ParticleSearch`; or labels are needed and missing.
        """
        objective = self.search.objective
        if objective.needs_labels and y is None:
            raise InputError(f"{type(objective).__name__} needs labels; none were given: pass y, or search with KL()")
        x_adv = self.search(model, x, y, generator=generator).x_adv
        if objective.needs_clean and clean_logits is None:
            clean_logits = predict(model, x)
        return self.at(model, x_adv, y, clean_logits=clean_logits)

    def at(
        self,
        model: nn.Module,
        x_adv: Float[Tensor, "num_particles batch *event"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        clean_logits: Float[Tensor, "batch classes"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return the regulariser of each example at particles that are at hand; arguments as in the call."""
        n = len(x_adv)
        values = self.search.objective(
            predict(model, x_adv.flatten(0, 1)),
            clean_logits.repeat(n, 1) if clean_logits is not None else None,
            y.long().repeat(n) if y is not None else None,
        ).view(n, -1)
        if self.estimator == "mean":
            return values.mean(0)
        centred = (values - values.mean(0)).detach()
        return (centred * values).sum(0) / (n - 1)


@dataclass(frozen=True, kw_only=True)
class ALDPGD(Method):
    """ALD with the cross-entropy as the objective ("Our_PGD").

    Attributes:
        search: how the particles are found; its objective is the one that is trained, and reads the labels.
        weight: of the regulariser.
        estimator: which reading of the regulariser.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> list(ALDPGD().loss(model, batch))
        ['clean', 'robust']
    """

    title: ClassVar[str] = "ALD-PGD"

    search: ParticleSearch = ParticleSearch(Linf(0.031), num_particles=4, step_size=0.007)
    weight: float = 1.0
    estimator: Estimator = "mean"

    def __post_init__(self) -> None:
        ALD(self.search, self.estimator)  # checks the estimator
        if not self.search.objective.needs_labels:
            raise InputError(
                f"ALDPGD needs a search whose objective reads labels; got {self.search.objective}: use CrossEntropy()"
                " (or ALDTRADES)"
            )

    @property
    def num_particles(self) -> int:
        """Particles of the search."""
        return self.search.num_particles

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the clean cross-entropy and the weighted regulariser."""
        regulariser = ALD(self.search, self.estimator)(model, batch.x, batch.y, generator=batch.streams)
        return Terms(clean=cross_entropy(predict(model, batch.x), batch.y), robust=self.weight * regulariser.mean())


@dataclass(frozen=True, kw_only=True)
class ALDTRADES(Method):
    """ALD with the KL divergence as the objective ("Our_TRADES").

    Attributes:
        search: how the particles are found; its objective is the one that is trained, and reads the clean logits.
        weight: of the regulariser (6 on CIFAR-10, 1 on MNIST).
        estimator: which reading of the regulariser.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> list(ALDTRADES().loss(model, batch))
        ['clean', 'robust']
    """

    title: ClassVar[str] = "ALD-TRADES"

    search: ParticleSearch = ParticleSearch(
        Linf(0.031), num_particles=4, step_size=0.007, objective=KL(), start=Normal(1e-3)
    )
    weight: float = 6.0
    estimator: Estimator = "mean"

    def __post_init__(self) -> None:
        ALD(self.search, self.estimator)  # checks the estimator
        check_compares("ALDTRADES", self.search)

    @property
    def num_particles(self) -> int:
        """Particles of the search."""
        return self.search.num_particles

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the clean cross-entropy and the weighted regulariser."""
        x_adv = self.search(model, batch.x, batch.y, generator=batch.streams).x_adv
        clean = predict(model, batch.x)
        regulariser = ALD(self.search, self.estimator).at(model, x_adv, batch.y, clean_logits=clean)
        return Terms(clean=cross_entropy(clean, batch.y), robust=self.weight * regulariser.mean())
