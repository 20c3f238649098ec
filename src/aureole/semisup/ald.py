"""ALD for few labels: VAT over the whole adversarial local distribution, sampled by Stein particles.

    L = CE(f(x_l), y) + labelled_weight * R(x_l) + weight * R(x_u),    R(x) = 1/n sum_i D(f(x), f(x_i))

with x_1..x_n ~ P(x_adv | x) = exp(D) / Z on the ball (thesis Eqs. 5.3, 5.4 and 5.14), found by Algorithm 5.1. The
clean prediction is a constant. With one particle and no weight on labelled images it is VAT (and VAT to the bit with
``batch_norm="labelled"``, which says what the running statistics follow).

The thesis and its released code differ; besides the library's own default there is a preset of each:

    default            power iteration from n random directions; the directions of an image repel; KL(clean || adv)
    ALDVAT.probe       the released code: kernel over all directions of the batch, squared difference of softmaxes,
                       probed at 10, no step size, unlabelled images only; see :mod:`aureole.semisup.probe`
    ALDVAT.algorithm   Algorithm 5.1 to the letter: x + 10 U(-1, 1) projected on the ball, one step of 0.01, projected;
                       kernel of each image with sigma = 10^(1 - n); KL(adv || clean) of Eq. 5.3; both kinds of images

The default's kernel has a width of a third of the median distance between the directions of an image: wide enough to
repel, and too narrow to average the scores of different particles. The median rule does average them, and can make
particles less diverse than restarts (``results/diversity-cifar10`` has a case).

In the released code's reading nothing repels for n >= 2 (directions are sqrt(2) apart, sigma is 0.1 or less), so that
it is VAT with n restarts; for n = 1 the images of a batch repel one another, which outweighs the score. In the
algorithm's reading particles are no further apart than the ball is wide, so that sigma = 10^(1 - n) does act for small
n; where it is too narrow the search says so. The projection takes away the noise factor of 10, and all but the
direction of the step where the ball is smaller than 0.01. Departure: the images stay in [0, 1] (the thesis's CIFAR-10
is normalised first).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from aureole.core.balls import L2
from aureole.core.objectives import KL
from aureole.core.ramps import Sigmoid
from aureole.particles.kernels import RBF
from aureole.particles.search import ParticleSearch
from aureole.particles.starts import Uniform
from aureole.particles.steps import UnitL2
from aureole.semisup.passes import BatchNorm
from aureole.semisup.probe import SteinProbe
from aureole.semisup.vat import VAT

Kind = TypeVar("Kind", bound="ALDVAT")


@dataclass(frozen=True, kw_only=True)
class ALDVAT(VAT):
    """Adversarial local distribution regularisation with VAT's objective ("Our" in thesis section 5.5.2).

    Attributes:
        search: how the particles are found; its objective is the distance that is trained.
        weight: of the regulariser on unlabelled images (lambda 2).
        labelled_weight: of the regulariser on labelled images (lambda 1); 0 leaves them out of the search.
        batch_norm: ``"clean"`` as the authors' code, whose attack and adversarial pass leave running statistics alone.

    Example:
        >>> from aureole.core.method import Unlabelled
        >>> from aureole.semisup import ALDVAT
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> x_u = Unlabelled((torch.rand(8, 1, 2, 2),))
        >>> batch = Batch(torch.rand(2, 1, 2, 2), torch.tensor([0, 2]), epoch=0, unlabelled=x_u)
        >>> list(ALDVAT().loss(model, batch)), list(ALDVAT.probe(num_particles=2).loss(model, batch))
        (['labelled', 'unlabelled', 'labelled_distance'], ['labelled', 'unlabelled'])
    """

    title: ClassVar[str] = "ALD"

    search: ParticleSearch = replace(VAT.search, num_particles=4, kernel=RBF("narrow"), balance=0.5)
    labelled_weight: float = 1.0
    batch_norm: BatchNorm = "clean"

    @classmethod
    def probe(cls: type[Kind], radius: float = 0.01, num_particles: int = 4, unit: float = 1.0) -> Kind:
        """Return the authors' released code: :meth:`thesis` with another start.

        Args:
            radius: of the Euclidean ball, in units: 0.01 on MNIST, 5e-4 on CIFAR-10.
            num_particles: particles an image.
            unit: as of :meth:`thesis`.
        """
        restarts = cls.thesis(radius, num_particles, unit)
        return replace(restarts, search=replace(restarts.search, start=SteinProbe(10.0 * unit)))

    @classmethod
    def algorithm(cls: type[Kind], radius: float = 0.01, num_particles: int = 4, unit: float = 1.0) -> Kind:
        """Return Algorithm 5.1 with the thesis's settings, to the letter; arguments as of :meth:`probe`."""
        search = ParticleSearch(
            L2(radius * unit),
            num_particles=num_particles,
            num_steps=1,
            step_size=0.01 * unit,
            objective=KL("adversarial||clean"),
            kernel=RBF("thesis"),
            temperature=1.0,
            step=UnitL2(),
            start=Uniform(10.0),
            mode="batch_statistics",
        )
        return cls(search=search, weight=30.0, labelled_weight=30.0, ramp=Sigmoid(30.0))
