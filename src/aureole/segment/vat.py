"""VAT for segmentation, and what Cross-ALD makes of it: more particles, a kernel on features, crossing, contrast.

    L = Dice(f(x_l), y) + weight * ramp * [1/n sum_i D(f(x_i), f(x)) + l_cs]

over labelled and unlabelled images, with D the soft Dice distance, f(x) a constant, and x_1..x_n on the ball around x.
Every rung of thesis Table 6.3 is these fields with other values, in a class with the rung's name:

    VAT             one image, by one step of power iteration from a random direction
    SVGD            n particles whose directions repel, kernel on pixels
    SVGDF           kernel on features of the network (Eq. 6.6, Algorithm 6.1)
    ... + Mixup     particles of two images are mixed (Eq. 6.7): :mod:`aureole.segment.crossing`
    SS-Net          VAT and the contrast of :mod:`aureole.segment.contrast`

Each particle passes through the network on batch statistics of its own, which the running ones do not follow, so that
``checkpoint`` changes the memory and not the gradient. The thesis gives none of the numbers of the search: they are
those of SS-Net's code (radius 6 on ACDC and 10 on the left atrium, probed at 10), whose VAT loss it replaces. Drive and
repulsion are scaled to the same length before they are added (``balance``), for the gradient of a Dice distance has no
natural scale beside that of a kernel. The kernel is narrow: by the median rule it averages the gradients of an image's
particles, which leaves them less diverse than restarts. Its features are those of the network in evaluation mode.
``balance=None, temperature=1.0`` with ``feature_gradient="others"`` is Eq. 6.6 to the letter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aureole.core import checks
from aureole.core.balls import L2
from aureole.core.errors import InputError
from aureole.core.model import frozen, predict, quiet, random_state_kept, statistics_kept
from aureole.core.random import Streams
from aureole.particles.kernels import RBF, FeatureGradient, FeatureRBF
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Probe
from aureole.segment.base import Segmentation, Step
from aureole.segment.contrast import Contrast, PixelMemory
from aureole.segment.crossing import Crossing
from aureole.segment.dice import SoftDice
from aureole.segment.network import Extractor, check_layer, outputs_of


@dataclass(frozen=True, kw_only=True)
class VAT(Segmentation):
    """Virtual adversarial training with the soft Dice distance.

    Attributes:
        search: how the particles are found; its objective is the distance that is trained.
        features: map of the network that the kernel compares: ``"bottleneck"``, ``"embedding"`` or the name of a layer;
            None leaves the kernel of the search.
        feature_gradient: at which particle the gradient of that kernel is taken, ``"own"`` or ``"others"``: see
            :class:`~aureole.particles.kernels.FeatureRBF`.
        alpha: of the Beta distribution by which particles of two images are mixed; None mixes none.
        contrast: the term that keeps classes apart; None for none.
        unlabelled_only: leave the labelled images out of the search (Eq. 6.8); the published code has them in.
        second_pass: take f(x) from another pass, which the running statistics follow too, as SS-Net's code; otherwise
            from the pass of the step itself.
        checkpoint: run each particle's pass anew in the backward pass: the memory is that of one particle.

    Example:
        >>> from aureole.data.scans import ScanBatch
        >>> from aureole.models.segmentation import UNetSegmenter
        >>> from aureole.segment import VAT
        >>> model, y = UNetSegmenter(num_classes=3, width=4), torch.zeros(2, 32, 32, dtype=torch.int64)
        >>> x_u = Unlabelled((torch.rand(3, 1, 32, 32),))
        >>> batch = ScanBatch(torch.rand(2, 1, 32, 32), y, epoch=0, unlabelled=x_u)
        >>> list(VAT().loss(model, batch))
        ['labelled', 'consistency']

    Source: SS-Net (Wu et al. 2022); thesis Eq. 6.1 with the distance of Eq. 6.3.
    """

    title: ClassVar[str] = "VAT"

    search: ParticleSearch = ParticleSearch(
        L2(6.0, bounds=None),
        num_particles=1,
        num_steps=0,
        objective=SoftDice(scope="batch"),
        kernel=None,
        balance=0.5,
        start=Probe(10.0),
        mode="batch_statistics",
        one_by_one=True,
    )
    features: str | None = None
    feature_gradient: FeatureGradient = "own"
    alpha: float | None = None
    contrast: Contrast | None = None
    unlabelled_only: bool = False
    second_pass: bool = False
    checkpoint: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.search.objective, SoftDice):
            raise InputError(f"{self.title} compares segmentations by SoftDice(); got {self.search.objective!r}")
        if self.alpha is not None:
            checks.check_positive("alpha", self.alpha)

    @property
    def num_particles(self) -> int:
        """Particles of the search."""
        return self.search.num_particles

    def own_parameters(self, modules: nn.Module | None) -> Iterable[nn.Parameter]:
        """Return the parameters of the contrast's heads, which the network's optimiser trains too."""
        return () if self.contrast is None else self._part("contrast", modules).parameters()

    def _parts(self, model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
        parts = super()._parts(model, x)
        if self.contrast is not None:
            check_layer(model, self.layer, self.title)
            with random_state_kept(x.device), torch.no_grad(), frozen(model):
                outputs = outputs_of(model, x[:1], self.layer)
            memory = PixelMemory(outputs.logits.shape[1], outputs.embedding.shape[1], self.contrast)
            parts["contrast"] = memory.to(x.device)
        return parts

    def _terms(self, step: Step) -> dict[str, Tensor]:
        terms = {"consistency": self._consistency(step)}
        if self.contrast is not None:
            terms["contrast"] = self.contrast.weight * self._separation(step)
        return terms

    def _consistency(self, step: Step) -> Float[Tensor, ""]:
        first = step.num_labelled if self.unlabelled_only else 0
        x, streams = step.x[first:], Streams(step.streams.keys[first:])
        clean = step.outputs.logits[first:].detach()
        if self.second_pass:
            with torch.no_grad():
                clean = predict(step.model, x, positions=True)
        x_adv = self.search_on(step.model)(step.model, x, clean=clean, generator=streams.fork(0)).x_adv
        if self.alpha is not None:
            crossing = Crossing.draw(self.alpha, streams.fork(1), len(x_adv))
            clean, x_adv = quiet(step.model, crossing.images(x), positions=True), crossing.particles(x_adv)
        return torch.stack([self._distance(step.model, rows, clean) for rows in x_adv]).mean()

    def search_on(self, model: nn.Module, num_particles: int | None = None) -> ParticleSearch:
        """Return the search on one network: with a kernel on its features, where the method wants one.

        Args:
            model: one of our networks, or any in which :attr:`features` names a layer.
            num_particles: None for the search's own number.
        """
        search = replace(self.search, num_particles=num_particles or self.num_particles)
        if self.features is None or search.num_particles == 1:
            return search
        bandwidth = search.kernel.bandwidth if isinstance(search.kernel, RBF) else "median"
        kernel = FeatureRBF(Extractor(model, self.features), bandwidth, gradient=self.feature_gradient)
        return replace(search, kernel=kernel)

    def _distance(
        self, model: nn.Module, x_adv: Float[Tensor, "rows channels *spatial"], clean: Tensor
    ) -> Float[Tensor, ""]:
        """Return the distance of one particle of all images from their targets, with its gradient."""

        def distance(rows: Tensor) -> Tensor:
            with statistics_kept(model):
                return self.search.objective(predict(model, rows, positions=True), clean).mean()

        if not self.checkpoint:
            return distance(x_adv)
        found = checkpoint(distance, x_adv, use_reentrant=False)
        assert isinstance(found, Tensor)
        return found

    def _separation(self, step: Step) -> Float[Tensor, ""]:
        memory, n = self._part("contrast", step.modules), step.num_labelled
        assert isinstance(memory, PixelMemory)
        logits, embedding = step.outputs.logits.detach(), step.outputs.embedding
        memory.remember(embedding[:n].detach(), logits[:n], step.batch.y)
        labelled = memory(embedding[:n], step.batch.y)
        return labelled + memory(embedding[n:], logits[n:].argmax(1)) if len(logits) > n else labelled
