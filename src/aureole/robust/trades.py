"""TRADES: fit the clean images, and keep predictions constant over the ball.

    L = CE(f(x), y) + weight * KL(f(x) || f(x_adv)),    x_adv maximises the KL in the ball

Zhang et al. 2019, Eq. 5; thesis Eq. 5.3. The search starts at x + 0.001 N(0, 1), projected (theirs is clipped from the
first step on). The gradient flows through both sides of the divergence, as in the authors' code. That code runs the
clean batch twice in training mode; we run it once (the same loss, one update of the running statistics less), and
compute the target of the search once instead of at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.functional import cross_entropy

from aureole.core.balls import Linf
from aureole.core.errors import InputError
from aureole.core.method import Batch, Method, Terms
from aureole.core.model import predict
from aureole.core.objectives import KL
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Normal


def check_compares(method: str, search: ParticleSearch) -> None:
    """Check that a search maximises a difference from the clean prediction, such as KL().

    Raises:
        InputError: it does not: the search's own default, the cross-entropy, would make another method of this one.
    """
    if not search.objective.needs_clean:
        raise InputError(
            f"{method} needs a search whose objective compares with the clean prediction; got {search.objective}: pass"
            " ParticleSearch(..., objective=KL())"
        )


@dataclass(frozen=True, kw_only=True)
class TRADES(Method):
    """Cross-entropy on clean images, and divergence between clean and adversarial predictions.

    Attributes:
        search: how the adversarial images are found; its objective is the one that is trained. With several particles
            and no kernel: independent restarts under a mean loss.
        weight: of the divergence (6 on CIFAR-10, 1 on MNIST).

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> list(TRADES().loss(model, batch))
        ['clean', 'robust']
    """

    title: ClassVar[str] = "TRADES"

    search: ParticleSearch = ParticleSearch(
        Linf(0.031), num_particles=1, step_size=0.007, objective=KL(), kernel=None, start=Normal(1e-3)
    )
    weight: float = 6.0

    def __post_init__(self) -> None:
        check_compares("TRADES", self.search)

    @property
    def num_particles(self) -> int:
        """Particles of the search."""
        return self.search.num_particles

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the clean cross-entropy and the weighted divergence."""
        x_adv = self.search(model, batch.x, batch.y, generator=batch.streams).x_adv
        clean, adversarial = predict(model, batch.x), predict(model, x_adv.flatten(0, 1))
        divergence = self.search.objective(adversarial, clean.repeat(len(x_adv), 1), batch.y.repeat(len(x_adv)))
        return Terms(clean=cross_entropy(clean, batch.y), robust=self.weight * divergence.mean())
