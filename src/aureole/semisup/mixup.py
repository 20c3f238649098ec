"""VAT + Mixup and ALD + Mixup: global smoothness between the adversarial particles of a batch.

    x_mix = lambda x_i + (1 - lambda) x_j,    R = lambda D(f(x_mix), t_i) + (1 - lambda) D(f(x_mix), t_j)

over all particles i of all images of the batch, j a permutation of them, t the clean predictions (constants), and one
lambda ~ Beta(alpha, alpha) a batch. Thesis section 5.5.2 and table 5.1, in the form of the authors' code; Zhang et al.
2018 for Mixup. Where labelled images have a weight, their particles are permuted with the others, and a mixed image
counts for the kind of its first partner. The permutation makes a loss depend on the whole batch, as Mixup is meant to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aureole.core.checks import check_positive
from aureole.core.mixing import Mixing, beta, permutation
from aureole.core.random import Streams
from aureole.semisup.ald import ALDVAT
from aureole.semisup.vat import VAT


@dataclass(frozen=True, kw_only=True)
class VATMixup(VAT):
    """VAT whose adversarial images are mixed.

    Attributes:
        alpha: of the Beta distribution; positive.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import VATMixup
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x_u = Unlabelled((torch.rand(8, 1, 2, 2),))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=x_u)
        >>> list(VATMixup.thesis(num_particles=4).loss(model, batch))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "VAT + Mixup"

    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha", self.alpha)

    def _mixing(self, streams: Streams, num_particles: int) -> Mixing:
        return one_mixing(self.alpha, streams, num_particles)


@dataclass(frozen=True, kw_only=True)
class ALDMixup(ALDVAT, VATMixup):
    """ALD whose particles are mixed: ALD's fields, and the mixing of :class:`VATMixup`.

    Attributes:
        alpha: of the Beta distribution; positive.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import ALDMixup
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x_u = Unlabelled((torch.rand(8, 1, 2, 2),))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=x_u)
        >>> list(ALDMixup.probe(num_particles=2).loss(model, batch))
        ['labelled', 'unlabelled']
    """

    title: ClassVar[str] = "ALD + Mixup"


def one_mixing(alpha: float, streams: Streams, num_particles: int) -> Mixing:
    """Draw one share and one permutation for all particles of a batch, from streams that a search leaves alone."""
    streams = streams.fork(2)
    return Mixing(beta(alpha, streams)[0], permutation(streams, num_particles))
