"""Adversarial training as Madry et al. 2018 define it: fit the worst image of the ball, and that alone.

    L = CE(f(x_adv), y),    x_adv maximises the cross-entropy in the ball (PGD)

Madry et al., Eq. 2.1; thesis Eq. 5.1. Their code keeps the model in training mode during the attack; here it is in
evaluation mode, as in later practice (``search.mode`` has the other).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.functional import cross_entropy

from aureole.core.balls import Linf
from aureole.core.method import Batch, Method, Terms
from aureole.core.model import predict
from aureole.particles.search import ParticleSearch


@dataclass(frozen=True, kw_only=True)
class Madry(Method):
    """Cross-entropy on adversarial images.

    Attributes:
        search: how the adversarial images are found. With several particles and no kernel: independent restarts under a
            mean loss.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> list(Madry().loss(model, batch))
        ['robust']
    """

    title: ClassVar[str] = "Madry"

    search: ParticleSearch = ParticleSearch(Linf(8 / 255), num_particles=1, kernel=None)

    @property
    def num_particles(self) -> int:
        """Particles of the search."""
        return self.search.num_particles

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the adversarial cross-entropy."""
        x_adv = self.search(model, batch.x, batch.y, generator=batch.streams).x_adv
        return Terms(robust=cross_entropy(predict(model, x_adv.flatten(0, 1)), batch.y.repeat(len(x_adv))))
