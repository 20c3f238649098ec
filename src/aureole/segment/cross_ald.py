"""Cross-ALD and the rungs of its ablation: thesis chapter 6, Eq. 6.8 and Table 6.3.

    L = Dice(f(x_l), y) + weight * ramp * [1/n sum_i D(f(x~_i), f(x~)) + 0.1 l_cs]

x~_i are crossed particles (Eq. 6.7) of adversarial local distributions (Eq. 6.2), found by Stein variational gradient
descent with a kernel on features, SVGDF (Algorithm 6.1). No code of it was published; every class here is
:class:`~aureole.segment.vat.VAT` with other values, where the readings of what the thesis leaves open are explained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from aureole.core import checks
from aureole.core.mixing import Mixing
from aureole.particles.kernels import RBF
from aureole.particles.search import ParticleSearch
from aureole.segment.base import Segmentation, Step
from aureole.segment.contrast import Contrast
from aureole.segment.crossing import Crossing
from aureole.segment.dice import SoftDice
from aureole.segment.network import BOTTLENECK, outputs_of
from aureole.segment.vat import VAT

_PARTICLES = replace(VAT.search, num_particles=2, kernel=RBF("narrow"))


@dataclass(frozen=True, kw_only=True)
class RandomMixup(Segmentation):
    """The prediction of a mixture of two natural images is to be the mixture of their predictions.

    Attributes:
        alpha: of the Beta distribution; positive.
        objective: the distance.

    Example:
        >>> from aureole.segment import RandomMixup
        >>> RandomMixup().title
        'RanMixup'

    Source: "RanMixup" of thesis Table 6.3, which does not define it: ICT (Verma et al. 2019) without its teacher.
    """

    title: ClassVar[str] = "RanMixup"

    alpha: float = 0.5
    objective: SoftDice = SoftDice(scope="batch")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_positive("alpha", self.alpha)

    def _terms(self, step: Step) -> dict[str, Tensor]:
        mixing: Mixing = Crossing.draw(self.alpha, step.streams.fork(1)).mixing
        target = mixing(step.outputs.logits.detach().softmax(1))
        mixed = outputs_of(step.model, mixing(step.x), self.layer).logits.softmax(1)
        return {"consistency": self.objective.between(mixed, target).mean()}


@dataclass(frozen=True, kw_only=True)
class VATMixup(VAT):
    """VAT whose adversarial images are crossed.

    Attributes:
        alpha: of the Beta distribution.

    Example:
        >>> from aureole.segment import VATMixup
        >>> VATMixup().num_particles
        1

    Source: thesis Table 6.3.
    """

    title: ClassVar[str] = "VAT + Mixup"

    alpha: float | None = 0.5


@dataclass(frozen=True, kw_only=True)
class SSNet(VAT):
    """VAT and the separation of classes.

    Attributes:
        contrast: SS-Net's, oddities included.
        second_pass: as in the authors' code.

    Example:
        >>> from aureole.segment import SSNet
        >>> SSNet().contrast
        Contrast(weight=0.1, size=32, keep='lowest', memory_attention=False)

    Source: SS-Net (Wu et al. 2022).
    """

    title: ClassVar[str] = "SS-Net"

    contrast: Contrast | None = Contrast()
    second_pass: bool = True


@dataclass(frozen=True, kw_only=True)
class SVGD(VAT):
    """Particles that a kernel on pixels keeps apart.

    Attributes:
        search: with two particles, as the thesis.

    Example:
        >>> from aureole.segment import SVGD
        >>> SVGD().num_particles
        2

    Source: thesis Table 6.3.
    """

    title: ClassVar[str] = "SVGD"

    search: ParticleSearch = _PARTICLES


@dataclass(frozen=True, kw_only=True)
class SVGDF(SVGD):
    """Particles that a kernel on features of the network keeps apart.

    Attributes:
        features: the encoder's bottleneck (thesis section 6.2.4); ``"embedding"``, the decoder's last map, in 6.3.1.

    Example:
        >>> from aureole.segment import SVGDF
        >>> SVGDF().features
        'bottleneck'

    Source: thesis Algorithm 6.1.
    """

    title: ClassVar[str] = "SVGDF"

    features: str | None = BOTTLENECK


@dataclass(frozen=True, kw_only=True)
class SVGDFContrast(SVGDF):
    """SVGDF and SS-Net's separation of classes.

    Attributes:
        contrast: as in SS-Net.

    Example:
        >>> from aureole.segment import SVGDFContrast
        >>> SVGDFContrast().contrast.weight
        0.1

    Source: "SVGDF + l_cs" of thesis Table 6.3.
    """

    title: ClassVar[str] = "SVGDF + l_cs"

    contrast: Contrast | None = Contrast()


@dataclass(frozen=True, kw_only=True)
class CrossALD(SVGDFContrast):
    """Cross-adversarial local distribution regularisation.

    Attributes:
        alpha: of the Beta distribution by which particles are crossed; the thesis gives none.

    Example:
        >>> from aureole.data.scans import ScanBatch
        >>> from aureole.models.segmentation import UNetSegmenter
        >>> from aureole.segment import CrossALD
        >>> model, method = UNetSegmenter(num_classes=3, width=4), CrossALD()
        >>> y = torch.zeros(2, 32, 32, dtype=torch.int64)
        >>> x_u = Unlabelled((torch.rand(3, 1, 32, 32),))
        >>> batch = ScanBatch(torch.rand(2, 1, 32, 32), y, epoch=0, unlabelled=x_u)
        >>> list(method.loss(model, batch, method.own(model, batch.x)))
        ['labelled', 'consistency', 'contrast']

    Source: thesis Eq. 6.8.
    """

    title: ClassVar[str] = "Cross-ALD"

    alpha: float | None = 0.5
