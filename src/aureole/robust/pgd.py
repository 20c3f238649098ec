"""PGD adversarial training in the form of the thesis's experiments: half clean, half adversarial.

    L = CE(f(x), y) + weight * CE(f(x_adv), y),    x_adv maximises the cross-entropy in the ball (PGD)

Thesis Eq. 5.1 as its code base trains it (the rows "PGD" of tables 5.2 and 5.3); Madry's own form is ``madry.py``. The
two passes are separate and both in training mode, so batch normalisation sees clean and adversarial statistics.
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
class PGDTraining(Method):
    """Cross-entropy on clean and on adversarial images.

    Attributes:
        search: how the adversarial images are found. With several particles and no kernel: independent restarts under a
            mean loss.
        weight: of the adversarial term.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]))
        >>> list(PGDTraining().loss(model, batch))
        ['clean', 'robust']
    """

    title: ClassVar[str] = "PGD"

    search: ParticleSearch = ParticleSearch(Linf(0.031), num_particles=1, step_size=0.007, kernel=None)
    weight: float = 1.0

    @property
    def num_particles(self) -> int:
        """Particles of the search."""
        return self.search.num_particles

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the clean and the weighted adversarial cross-entropy."""
        x_adv = self.search(model, batch.x, batch.y, generator=batch.streams).x_adv
        labels = batch.y.repeat(len(x_adv))
        adversarial = cross_entropy(predict(model, x_adv.flatten(0, 1)), labels, reduction="none")
        return Terms(clean=cross_entropy(predict(model, batch.x), batch.y), robust=self.weight * adversarial.mean())
