"""VAT: predictions are to stay the same in the direction in which they change most.

    L = CE(f(x_l), y) + weight * D(f(x_u), f(x_u + r)),    r = radius * d,  d <- unit(grad_d D(f(x), f(x + xi d)))

with d a random unit vector at first, and D = KL(f(x) || f(x + r)). Miyato et al. 2019, Eqs. 5 to 12 and Algorithm 1;
the thesis's Eq. 5.3. The direction needs gradients of first order alone, at the images: the second-order term of the
paper is a difference of two of them. f(x_u) is a constant. ``num_particles`` of the search draws as many directions
for each image, under a mean loss: the "n restarts" that the thesis compares with.

Departures from the authors' code: the power iteration looks from ``xi = 0.1`` on (theirs, 1e-6, is lost in the
rounding of float32 images in [0, 1]; the codes that the thesis builds on take 10); the first direction is uniform on
the sphere; dropout differs between the passes; the images stay in their bounds. Theirs draws unlabelled images from all
training images, labelled ones included: that is up to the loader. The default radius is for images in [0, 1]; it must
be tuned to the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aureole.core.balls import L2
from aureole.core.checks import check_weight
from aureole.core.method import Batch, Terms
from aureole.core.mixing import Mixing
from aureole.core.objectives import KL, SquaredDifference
from aureole.core.ramps import Sigmoid
from aureole.core.random import Streams
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Probe
from aureole.semisup.base import (
    SemiSupervised,
    check_compares,
    labelled_streams,
    unlabelled_streams,
)

Kind = TypeVar("Kind", bound="VAT")


@dataclass(frozen=True, kw_only=True)
class VAT(SemiSupervised):
    """Virtual adversarial training.

    Attributes:
        search: how adversarial images are found; its objective is the distance that is trained. With ``mode="eval"``
            and ``max_batch`` the memory of a step is bounded: search and trained pass take so many images at a time,
            the latter at the price of another forward pass.
        weight: of the distance on unlabelled images.
        labelled_weight: of the distance on labelled images too (thesis Eq. 5.14); 0 leaves them out of the search.
        batch_norm: ``"labelled"`` as the authors' code; ``"clean"`` as the code that the thesis builds on.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import VAT
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x_u = Unlabelled((torch.rand(8, 1, 2, 2),))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), unlabelled=x_u)
        >>> list(VAT().loss(model, batch))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "VAT"

    search: ParticleSearch = ParticleSearch(
        L2(2.0),
        num_particles=1,
        num_steps=0,
        objective=KL(),
        kernel=None,
        start=Probe(0.1),
        mode="batch_statistics",
    )
    labelled_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("labelled_weight", self.labelled_weight)
        check_compares(self.title, self.search.objective)

    @classmethod
    def thesis(cls: type[Kind], radius: float = 0.01, num_particles: int = 1, unit: float = 1.0) -> Kind:
        """Return the settings that the thesis compares ALD with, as the code that it builds on has them.

        The distance is the squared difference of softmaxes, probed at 10, with weight 30 and a ramp over 30 epochs.

        Args:
            radius: of the Euclidean ball, in units: 0.01 on MNIST, 5e-4 on CIFAR-10.
            num_particles: directions an image.
            unit: what a length of 1 in the thesis's images is in these: about 0.2, the standard deviation of CIFAR-10,
                where the thesis's are normalised and these lie in [0, 1].
        """
        search = replace(
            VAT.search,
            ball=L2(radius * unit),
            num_particles=num_particles,
            objective=SquaredDifference(),
            start=Probe(10.0 * unit),
        )
        return cls(search=search, weight=30.0, ramp=Sigmoid(30.0), batch_norm="clean", labelled_weight=0.0)

    @property
    def num_particles(self) -> int:
        """Particles of the search."""
        return self.search.num_particles

    def loss(self, model: nn.Module, batch: Batch, modules: nn.Module | None = None) -> Terms:
        """Return the cross-entropy, and the distance on unlabelled and (where it has a weight) on labelled images."""
        (x,) = self._views(model, batch)
        keys = [unlabelled_streams(batch).keys]
        both = self.labelled_weight > 0
        if both:
            keys.append(labelled_streams(batch).keys)
        centres = torch.cat([x, batch.x]) if both else x
        streams = Streams(torch.cat(keys))
        x_adv = self.search(model, centres, generator=streams).x_adv
        mixing, rows = self._mixing(streams, len(x_adv)), x_adv.flatten(0, 1)
        rows = rows if mixing is None else mixing(rows)
        passes = self._passes(model, batch, targets=[x], trained=[rows], max_batch=self.search.max_batch)
        clean = torch.cat([*passes.targets, passes.labelled.detach()]) if both else passes.targets[0]
        values = self._distance(passes.trained[0], clean.repeat(len(x_adv), 1), mixing).view(len(x_adv), -1)
        terms = Terms(
            labelled=cross_entropy(passes.labelled, batch.y), unlabelled=self._weighted(batch, values[:, : len(x)])
        )
        if both:
            factor = self.labelled_weight * self.ramp(batch.epoch)
            terms["labelled_distance"] = factor * values[:, len(x) :].mean()
        return terms

    def _mixing(self, streams: Streams, num_particles: int) -> Mixing | None:
        """Return how particles are mixed with one another; None leaves them as they are."""
        return None

    def _distance(
        self, logits: Float[Tensor, "rows classes"], clean: Float[Tensor, "rows classes"], mixing: Mixing | None
    ) -> Float[Tensor, " rows"]:
        """Return the distance of each row from its target, or from both targets of a mixed image."""
        own = self.search.objective(logits, clean)
        if mixing is None:
            return own
        return mixing.between(own, self.search.objective(logits, clean[mixing.order]))
