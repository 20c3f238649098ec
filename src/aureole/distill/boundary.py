"""How near a student's decision boundaries are to its teacher's: both attacked by BSS, towards the same classes.

Images that both classify correctly are walked to the boundary of each network, towards a class that the teacher's
probabilities draw; those that crossed both are compared by MagSim and AngSim (:mod:`aureole.metrics.boundary`). Heo et
al. 2019, section 5.3; thesis section 7.4.4, which does not say which images, targets and steps it takes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aureole.attacks.bss import BSSAttack, sample_targets
from aureole.core import checks
from aureole.core.errors import UntrustedResult
from aureole.core.model import predict, searched
from aureole.core.random import Streams, streams_for
from aureole.metrics.boundary import angle_similarity, magnitude_similarity


@dataclass(frozen=True)
class BoundaryComparison:
    """What two networks' boundaries have in common.

    Attributes:
        magnitude: MagSim, in [0, 1]; 1 where both boundaries are equally far.
        angle: AngSim, in [-1, 1]; 1 where they lie in the same direction.
        student_fooled: share of the attacked images whose attack crossed the student's boundary.
        teacher_fooled: share of them whose attack crossed the teacher's.
        num_images: images that were given.
        num_attacked: those that both classify correctly.
        num_skipped: attacked ones that did not cross both boundaries; they are in neither mean.
    """

    magnitude: float
    angle: float
    student_fooled: float
    teacher_fooled: float
    num_images: int
    num_attacked: int
    num_skipped: int


def compare_boundaries(
    student: nn.Module,
    teacher: nn.Module,
    x: Float[Tensor, "batch *event"],
    y: Int[Tensor, " batch"],
    *,
    attack: BSSAttack | None = None,
    generator: torch.Generator | Streams | None = None,
) -> BoundaryComparison:
    """Attack both networks and compare what took each image across.

    Args:
        student: maps images to logits; judged in evaluation mode, and left as it was.
        teacher: the same.
        x: images, of a test set.
        y: labels.
        attack: how boundaries are found; None takes 50 steps of 0.08, for 32 images at a time. Its ``max_batch`` bounds
            the memory.
        generator: source of the targets.

    Returns:
        The comparison; NaN, with a warning, where no image crossed both boundaries.

    Raises:
        InputError: images, labels, devices or the models' outputs are not as described.

    Example:
        >>> from aureole.distill.boundary import compare_boundaries
        >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(8, 1, 2, 2)
        >>> attack = BSSAttack(ball=L2(0.5, bounds=None), num_steps=50)
        >>> compared = compare_boundaries(model, model, x, model(x).argmax(-1), attack=attack)
        >>> round(compared.magnitude, 4), round(compared.angle, 4), compared.num_attacked
        (1.0, 1.0, 8)
    """
    attack = BSSAttack(num_steps=50, step_size=0.08, max_batch=32) if attack is None else attack
    for model in (student, teacher):
        checks.check_call(model, x, y, attack.ball)
    streams = streams_for(x, generator)
    own, theirs = (_logits(model, x, attack) for model in (student, teacher))
    checks.check_classes(y, own.shape[1])
    rows = ((own.argmax(-1) == y) & (theirs.argmax(-1) == y)).nonzero()[:, 0]
    if not len(rows):
        return _compared(x[:0], x[:0], torch.zeros(2, 0, dtype=torch.bool), len(x))
    streams = streams.select(rows)
    targets = sample_targets(theirs[rows], streams, y[rows])
    first, second = (
        attack.cross(model, x[rows], targets, generator=streams.select(slice(None))) for model in (student, teacher)
    )
    crossed = torch.stack([first.crossed, second.crossed])
    return _compared(first.x_adv - x[rows], second.x_adv - x[rows], crossed, len(x))


def fooling_rate(
    model: nn.Module, x_adv: Float[Tensor, "num_particles batch *event"], x: Float[Tensor, "batch *event"]
) -> Float[Tensor, " batch"]:
    """Return the share of the particles of each image that a model classifies otherwise than the image.

    Args:
        model: maps images to logits; judged in evaluation mode, and left as it was.
        x_adv: particles, such as :meth:`aureole.distill.tald.TALD.particles` returns.
        x: the images.

    Example:
        >>> from aureole.distill.boundary import fooling_rate
        >>> x = torch.tensor([[1.0, 0.0]])
        >>> fooling_rate(nn.Identity(), torch.stack([x, 1 - x]), x)
        tensor([0.5000])

    Source: thesis section 7.4.1, which says that all particles fool the teacher.
    """
    with searched(model, x):
        there, here = predict(model, x_adv.flatten(0, 1)).argmax(-1), predict(model, x).argmax(-1)
    return (there.view(len(x_adv), -1) != here).float().mean(0)


def _logits(model: nn.Module, x: Tensor, attack: BSSAttack) -> Tensor:
    with searched(model, x) as images:
        return torch.cat([predict(model, part) for part in images.split(attack.max_batch or len(images))])


def _compared(first: Tensor, second: Tensor, crossed: Tensor, num_images: int) -> BoundaryComparison:
    both = crossed.all(0)
    compared, attacked = int(both.sum()), len(both)
    if not compared:
        warnings.warn(
            f"no boundary was compared: of {num_images} images both networks classify {attacked} correctly, and none"
            " crossed both boundaries (take more steps, or larger ones)",
            UntrustedResult,
            stacklevel=3,
        )
    student, teacher = (float("nan"),) * 2 if not attacked else crossed.double().mean(1).tolist()
    return BoundaryComparison(
        magnitude=float(magnitude_similarity(first, second, both)),
        angle=float(angle_similarity(first, second, both)),
        student_fooled=student,
        teacher_fooled=teacher,
        num_images=num_images,
        num_attacked=attacked,
        num_skipped=attacked - compared,
    )
